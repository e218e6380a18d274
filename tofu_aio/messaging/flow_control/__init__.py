"""Which connections are read, by the permits of the pool; reports when permits stay out."""
