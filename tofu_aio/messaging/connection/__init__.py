"""The life of one connection, from the handshake to the close."""
