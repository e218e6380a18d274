"""The steps from an accepted socket to an open channel."""
