"""The bucket: what the job and the API share, and nothing else.

Keys, storage, parts, releases, the pointer, receipts and freshness. Imports neither ray, deltalake
nor scikit-learn.
"""
