"""Which connections are read: the permits of the pool, and reports when they do not come back."""
