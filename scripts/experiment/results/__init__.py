"""A grid's numbers, and their statistics."""
