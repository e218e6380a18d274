"""From an accepted socket to an open channel."""
