"""Inferers that the bundles' configs name."""
