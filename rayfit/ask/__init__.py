"""A person's prompt, continued by one model or by two beside each other, as text for a terminal."""
