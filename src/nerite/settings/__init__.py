"""The one list of server options. Flags, environment variables and their documentation derive
from it; launch.py and the doors read the result."""

from nerite.settings.command_line import parse
from nerite.settings.options import LOCAL, OPTIONS, Settings

__all__ = ["LOCAL", "OPTIONS", "Settings", "parse"]
