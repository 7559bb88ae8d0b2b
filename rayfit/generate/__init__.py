"""Decodings, the citation blocker, batched generation. `decoding` is pure; the rest needs torch and numba."""
