"""Records to MLflow: `connection` is the way there, `sync` fills it; the others say what a run holds."""
