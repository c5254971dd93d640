"""The steps, ``books_NNNN.py``."""
