"""Decodings, the citation blocker, batched generation. `decoding` and `engines` are pure; the rest: torch, numba."""
