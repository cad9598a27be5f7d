"""pb_utils.Logger: a model's words in the server's log."""

from __future__ import annotations

import enum
import json
import logging
import sys

from nerite.backends.base import LOGGED
from nerite.backends.python.errors import message_of
from nerite.backends.python.surroundings import in_worker, instance


class _Level(enum.Enum):
    INFO = "INFO"
    WARNING = "WARNING"
    ERROR = "ERROR"
    VERBOSE = "VERBOSE"


_LEVELS = {
    _Level.INFO: logging.INFO,
    _Level.WARNING: logging.WARNING,
    _Level.ERROR: logging.ERROR,
    _Level.VERBOSE: logging.DEBUG,
}


class Logger:
    """Writes to the server's log, under the name of the model's instance."""

    LogLevel = _Level
    INFO = _Level.INFO
    WARNING = _Level.WARNING
    ERROR = _Level.ERROR
    VERBOSE = _Level.VERBOSE

    @staticmethod
    def log(message: str, level: _Level = _Level.INFO) -> None:
        message = message_of(message, "Logger.log")
        if not isinstance(level, _Level):
            found = type(level).__name__
            raise TypeError(f"Logger.log: level must be one of Logger's, not {found}")
        if not in_worker():
            logging.getLogger("nerite.model").log(_LEVELS[level], "[%s] %s", instance(), message)
            return
        # The front process reads lines that begin so, and logs the message at its level.
        line = LOGGED + json.dumps([level.value, message]) + "\n"
        sys.stderr.write(line)
        sys.stderr.flush()

    @classmethod
    def log_info(cls, message: str) -> None:
        cls.log(message, _Level.INFO)

    @classmethod
    def log_warn(cls, message: str) -> None:
        cls.log(message, _Level.WARNING)

    @classmethod
    def log_error(cls, message: str) -> None:
        cls.log(message, _Level.ERROR)

    @classmethod
    def log_verbose(cls, message: str) -> None:
        cls.log(message, _Level.VERBOSE)
