"""The painter: the small text-to-image model that travels in the wheel, and its repository."""

from pathlib import Path

REPOSITORY = Path(__file__).parent / "repository"
