"""The shop's own encoder: a vector a token, trained from the catalogue and from nothing else.

`trainer` is the whole of it, from products to an encoder folder. `docs/own-encoder.md` says how it works and
what it was measured at.
"""
