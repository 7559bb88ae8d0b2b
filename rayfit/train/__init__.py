"""One worker's training, without Ray: engine, reset, loop, measurement, export; and making the embedded models."""
