"""Place: where a server's jobs are kept. Nothing is made there before there is one."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nerite.frontends.jobs.store import JobStore

log = logging.getLogger(__name__)
MEMORY = ":memory:"


class DatabaseError(Exception):
    """The file cannot be used; the message is the whole explanation."""


@dataclass(frozen=True, slots=True)
class Place:
    """path: as the operator has it; "" for a file in the user's folder for state that is named
    after the port, which no two servers share. size: of the file in bytes; 0 for no limit."""

    path: str = ""
    port: int = 0
    size: int = 0

    @property
    def file(self) -> str:
        if self.path or not self.port:
            return self.path or MEMORY
        state = os.environ.get("XDG_STATE_HOME") or os.path.expanduser("~/.local/state")
        return str(Path(state) / "nerite" / f"jobs-{self.port}.db")

    @property
    def wanted(self) -> bool:
        """Whether to open it at once: it is the operator's wish, or jobs of an earlier server may
        be there."""
        return bool(self.path) or Path(self.file).exists()

    async def open(self) -> JobStore:
        """Raises DatabaseError where the operator's own file cannot be used; where it is only the
        usual one, jobs are kept in memory."""
        from nerite.frontends.jobs.store import JobStore  # SQLite is read when it is used

        store = JobStore(self.file, self.size)
        try:
            await store.open()
        except DatabaseError as error:
            if self.path:
                raise
            log.warning("jobs will not outlive this server: %s (--jobs-path FILE)", error)
            store = JobStore(MEMORY, self.size)
            await store.open()
        return store
