"""Trials from options: ids, resources, DeepSpeed configuration. Pure, and quick: no torch, no Ray."""
