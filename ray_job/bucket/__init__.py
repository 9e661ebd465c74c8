"""The contract of the job and the API: everything that both of them use, and nothing else.

It holds the bucket's keys and storage, and the records that lie in it: parts, releases, the
pointer, receipts and scores. It imports neither ray, deltalake, numpy nor scikit-learn.
"""
