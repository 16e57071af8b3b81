"""Real data: from the download to what the bundles read."""
