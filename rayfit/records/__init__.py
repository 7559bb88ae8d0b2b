"""What is kept of texts, models, trials, evaluations and sweeps: atomic, marker last, found by id. Pure."""
