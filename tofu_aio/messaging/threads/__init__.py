"""The owner loop of an engine, and calls into it from other threads."""
