"""What a grid of runs is: presets, axes, cells."""
