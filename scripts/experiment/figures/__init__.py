"""Figures of a grid's results."""
