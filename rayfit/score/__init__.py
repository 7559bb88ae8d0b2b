"""Scores. Import from the modules: `text` has all text scores at once, the others one kind each."""
