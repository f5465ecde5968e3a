"""Readers of raw social-media dumps, and what cleans their posts. A further format is a copy of ``politosphere.py``."""
