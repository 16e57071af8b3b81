"""Data: quantitative maps from their real layouts, splits by subject, and regions read at random."""
