"""The message-level API of a group: channels that are made, used and ended by messages."""
