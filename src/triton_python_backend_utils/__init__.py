"""Triton's module for a model.py, importable anywhere: in editors, type checkers and tests.

Inside a server a model gets the same names with the server behind them.
"""

from nerite.backends.python.triton_python_backend_utils import *  # noqa: F403
