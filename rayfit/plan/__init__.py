"""From options to trials: ids, resources, DeepSpeed configuration. Pure, and quick: no torch, no Ray."""
