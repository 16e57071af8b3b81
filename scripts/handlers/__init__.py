"""What the bundles' configs name: data, training steps, checkpoints, tracking, pictures, evaluation."""
