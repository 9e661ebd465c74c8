"""The commands of `storecast`. Each parses its options, calls one use case and prints the result.

A command imports its use case when it runs, so that `storecast --help` loads little.
"""
