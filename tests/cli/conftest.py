"""A repository as tutorials have it."""

import shutil
from pathlib import Path

import pytest

from nerite import painter


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """A repository with the painter under the name that tutorials use."""
    model = tmp_path / "diffusion-models" / "stable_diffusion_1_5"
    shutil.copytree(painter.REPOSITORY / "painter", model)
    config = """backend: "diffusion" max_batch_size: 1
        input { name: "prompt" data_type: TYPE_STRING dims: [ 1 ] }
        output { name: "generated_image" data_type: TYPE_UINT8 dims: [ -1, -1, -1 ] }
        parameters { key: "steps" value { string_value: "4" } }
        parameters { key: "scheduler" value { string_value: "" } }
        parameters { key: "seed" value { string_value: "" } }"""
    (model / "config.pbtxt").write_text(config)
    return model.parent
