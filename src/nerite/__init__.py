"""nerite: a model server that speaks Triton's language, pip-installed."""

__version__ = "0.1.0"
