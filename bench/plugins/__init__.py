"""Plugins: found by name, joined into chains, and described."""
