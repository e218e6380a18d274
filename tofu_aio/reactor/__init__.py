"""The event loop: it knows descriptors, not messages."""
