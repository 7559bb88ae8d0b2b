"""From records to what people read: rows, table, plot. Pure but for matplotlib, which is imported when drawing."""
