"""Services and clients: calls by name, with typed payloads, over channels."""
