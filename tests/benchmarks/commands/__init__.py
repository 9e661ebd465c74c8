"""Whole processes: what a night takes from the command's start to its end, beside other tools."""
