"""Batched generation with transformers, the citation blocker, and loading a checkpoint to generate with."""
