"""The log of a Delta table: its replay as Arrow arrays, its features, and what is damaged in it."""
