"""The commands of `storecast`: each reads the clock once, calls what does the work, and tells."""
