"""What rows of sales may mean other than they say: totals, missing items, and other oddities."""
