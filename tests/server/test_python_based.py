"""Python-based backends: found in --backend-directory, in the model's folder, or in the wheel."""

import textwrap
from pathlib import Path

import numpy as np
import pytest
import tritonclient.http

from nerite import Server

from .conftest import Serve

SCALE = """
    import json
    from pathlib import Path

    import numpy as np
    import triton_python_backend_utils as pb_utils


    class TritonPythonModel:
        @staticmethod
        def auto_complete_config(config):
            config.add_input({"name": "IN", "data_type": "TYPE_FP32", "dims": [-1]})
            config.add_output({"name": "OUT", "data_type": "TYPE_FP32", "dims": [-1]})
            return config

        def initialize(self, args):
            self.by = json.loads((Path(pb_utils.get_model_dir()) / "model.json").read_text())["by"]
            self.runtime = json.loads(args["model_config"])["runtime"]

        def execute(self, requests):
            assert self.runtime == "model.py"
            return [
                pb_utils.InferenceResponse(
                    [pb_utils.Tensor("OUT", one.inputs()[0].as_numpy() * np.float32(self.by))]
                )
                for one in requests
            ]
"""


def add_scale(repository: Path, name: str, by: int) -> Path:
    folder = repository / name / "1"
    folder.mkdir(parents=True)
    (folder / "model.json").write_text(f'{{"by": {by}}}')
    (folder.parent / "config.pbtxt").write_text('backend: "scale"')
    return folder.parent


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    (tmp_path / "models").mkdir()
    return tmp_path / "models"


def scaled(url: str, model: str) -> list[float]:
    with tritonclient.http.InferenceServerClient(url) as client:
        values = np.array([1, 2], np.float32)
        wanted = tritonclient.http.InferInput("IN", [2], "FP32").set_data_from_numpy(values)
        out = client.infer(model, [wanted]).as_numpy("OUT")
    assert out is not None
    return list(out)


def test_a_backend_of_the_directory(serve: Serve, repository: Path, tmp_path: Path) -> None:
    backend = tmp_path / "backends" / "scale"
    backend.mkdir(parents=True)
    (backend / "model.py").write_text(textwrap.dedent(SCALE))
    add_scale(repository, "twice", 2)
    add_scale(repository, "thrice", 3)
    serving = serve(
        f"--model-repository={repository}", f"--backend-directory={tmp_path / 'backends'}"
    )
    assert scaled(serving.http, "twice") == [2, 4]
    assert scaled(serving.http, "thrice") == [3, 6]


def test_a_backend_in_the_models_own_folder(serve: Serve, repository: Path) -> None:
    (add_scale(repository, "twice", 2) / "model.py").write_text(textwrap.dedent(SCALE))
    assert scaled(serve(f"--model-repository={repository}").http, "twice") == [2, 4]


def test_an_unknown_backend_names_where_it_was_looked_for(serve: Serve, repository: Path) -> None:
    folder = add_scale(repository, "twice", 2)
    serving = serve(f"--model-repository={repository}", "--backend-directory=/nowhere")
    serving.wait()
    text = "unable to find backend library for backend 'scale', try specifying runtime on the "
    assert f"{text}model configuration. Model 'twice' has none" in serving.log
    assert f"'{folder / 'model.py'}', '/nowhere/scale/model.py'" in serving.log


@pytest.mark.parametrize(
    ("runtime", "expected"),
    [
        ("__nothing__", "unable to find backend library '__nothing__' for model 'm'"),
        ("../other/libtriton_identity.so", "escapes backend directory"),
        ("libtriton_identity.so", ""),
        ("model.py", ""),
    ],
)
async def test_a_runtime_that_is_named(repository: Path, runtime: str, expected: str) -> None:
    (repository / "m" / "1").mkdir(parents=True)
    (repository / "m" / "config.pbtxt").write_text(f'backend: "identity" runtime: "{runtime}"')
    async with Server(repository) as server:
        (state,) = server.states()
        assert expected in state.reason
        assert (state.model is None) == bool(expected)
