"""Small models in folders of diffusers, made once and copied by whoever changes them."""

import shutil
import subprocess
import sys

import pytest
from tests.diffusion import tiny


@pytest.fixture(scope="session")
def made(tmp_path_factory):
    """made("sd") is a folder, for everybody and not to be changed."""
    pytest.importorskip("diffusers")
    folders = {}

    def get(kind):
        if kind not in folders:
            folders[kind] = tmp_path_factory.mktemp("made") / kind
            tiny.make(kind, folders[kind])
        return folders[kind]

    return get


@pytest.fixture
def copied(made, tmp_path):
    """A folder of that kind for this test alone."""

    def copy(kind):
        return shutil.copytree(made(kind), tmp_path / "source" / kind)

    return copy


@pytest.fixture
def nerite(tmp_path):
    """`nerite("import", ...)` as a user types it, in the test's folder."""

    def run(*arguments, **options):
        return subprocess.run(
            [sys.executable, "-m", "nerite", *map(str, arguments)],
            cwd=tmp_path, capture_output=True, text=True, timeout=120, **options,
        )  # fmt: skip

    return run
