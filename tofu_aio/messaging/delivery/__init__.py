"""From a received message to the task that waits for it."""
