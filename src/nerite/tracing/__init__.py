"""Traces of single requests: which are traced, what is noted of them, where it goes."""
