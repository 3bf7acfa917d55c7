"""A user's own checkpoint: purify it, inspect it, or build a marked victim to teach and test with.

Modules load on demand; importing this package imports neither torch nor transformers.
"""
