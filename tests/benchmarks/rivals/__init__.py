"""The nightly forecast as it is commonly written. Each rival makes our predictions."""
