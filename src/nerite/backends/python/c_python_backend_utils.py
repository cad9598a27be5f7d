"""What Triton's stub has in C++, for models that import it: pb_utils, and its shared memory.

There is no shared memory here, so none of it is ever used or free.
"""

from __future__ import annotations

from nerite.backends.python.triton_python_backend_utils import *  # noqa: F403


class SharedMemory:
    """Triton's pool of it."""

    def free_memory(self) -> int:
        """Bytes."""
        return 0


shared_memory = SharedMemory()
