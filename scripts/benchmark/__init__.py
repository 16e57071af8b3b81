"""Measurements of speed and memory: ``python -m scripts benchmark ...``."""
