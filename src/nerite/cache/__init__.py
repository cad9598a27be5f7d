"""Floor 3: answers that were given before, by what was asked."""
