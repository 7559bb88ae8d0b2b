"""From what a plan declares to what is there: texts, token rows, models and their shape. No Ray."""
