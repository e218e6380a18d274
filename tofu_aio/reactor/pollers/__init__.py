"""Pollers: one small module a system, all behind one protocol."""
