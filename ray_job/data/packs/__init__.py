"""Packed histories: folded rows of many stores in one object, derived from the partitions.

A pack is used only for what it proves: see `reading`. Packs can be deleted at any time. The reasons
are in decision 0070.
"""
