"""Transforms that the bundles' configs name, in MONAI's sense: a dictionary in, a dictionary out."""
