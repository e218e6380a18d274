"""Bytes between two ends: sockets that connect and listen, TLS, the identity of the peer."""
