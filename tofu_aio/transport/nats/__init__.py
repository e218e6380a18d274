"""Channels through NATS brokers: an asyncio transport whose bytes travel as NATS messages.

``docs/design/nats.md`` describes what travels, and why.
"""
