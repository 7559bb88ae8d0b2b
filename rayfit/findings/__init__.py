"""What a sweep found, as values: rows joined from records, taken together over seeds and domains."""
