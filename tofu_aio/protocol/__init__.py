"""The wire format, the life of a channel and the accounting of messages, without I/O or clock."""
