"""Floor 2: when a call runs."""
