"""Writing the checked rows: the histories of the stores, and the context tables."""
