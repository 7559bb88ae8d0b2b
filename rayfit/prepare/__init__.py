"""Making and fetching what a plan declares: texts, token rows, models and their shape. No Ray."""
