"""A grid's tables, and their text."""
