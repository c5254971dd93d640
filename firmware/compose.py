"""Config → objects: the only place that says real or emulated, and the only importer of adapters.

Adapters are imported inside the function that needs them, so that a vehicle loads no desk code and a desk needs no screen.
"""
