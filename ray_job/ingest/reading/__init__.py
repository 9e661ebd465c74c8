"""Reading raw files: which ones are new, their rows in DuckDB, and the checks of their content."""
