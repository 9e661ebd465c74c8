"""The same nightly work as people commonly write it: each rival makes our predictions."""
