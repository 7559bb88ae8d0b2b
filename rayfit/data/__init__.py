"""Documents, spans, rows, contexts and the order of updates. Pure: a tokenizer comes in as a callable."""
