"""Floor 1: what runs. Heavy imports happen inside `load`."""
