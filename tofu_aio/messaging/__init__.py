"""Engines, groups, channels and listeners over asyncio transports."""
