"""What the bundles' configs name as handlers of their engines, and what these share."""
