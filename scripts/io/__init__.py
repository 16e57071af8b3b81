"""Files in and out: one reader of images, whatever their kind, and one writer, whole or not at all."""
