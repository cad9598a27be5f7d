"""Pictures that clients send, decoded once to know that they can be, and what size they are."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Upload:
    """A picture to be painted over: its file, its pixels, and what of it is to change.

    mask: 255 where it is painted anew.
    """

    file: bytes
    pixels: NDArray[np.uint8]
    mask: NDArray[np.uint8] | None = None
