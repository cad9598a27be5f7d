"""Floor 2: where a backend runs."""
