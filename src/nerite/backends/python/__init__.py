"""Triton's Python backend: a user's model.py and the module it imports."""
