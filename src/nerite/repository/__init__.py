"""Floor 2: where models come from."""
