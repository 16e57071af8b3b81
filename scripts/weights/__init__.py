"""Weights files: the tensors in them, where they come from, and which there are. MONAI is not needed to read them."""
