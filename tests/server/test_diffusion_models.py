"""What a config asks of a diffusion model besides painting, and whose backend paints."""

import textwrap
from pathlib import Path

import numpy as np
import pytest
import tritonclient.http as httpclient
from tests.diffusion import checkers

from .conftest import Serve


def paint(url: str, model: str, **numbers: int) -> httpclient.InferResult:
    with httpclient.InferenceServerClient(url) as client:
        prompt = httpclient.InferInput("prompt", [1], "BYTES")
        prompt.set_data_from_numpy(np.array([b"a red house"], object))
        inputs = [prompt]
        for name, value in numbers.items():
            kind = "INT64" if name == "seed" else "INT32"
            one = httpclient.InferInput(name, [1], kind)
            one.set_data_from_numpy(np.array([value], np.int64 if name == "seed" else np.int32))
            inputs.append(one)
        return client.infer(model, inputs)


@pytest.mark.filterwarnings("ignore")
def test_flags_and_blanks(serve: Serve, tmp_path: Path) -> None:
    pytest.importorskip("diffusers")
    checkers.add_painter(tmp_path, "flags", checker="all", mode="flag")
    checkers.add_painter(tmp_path, "blanks", checker="all", mode="blank")
    checkers.add_painter(tmp_path, "plain")
    serving = serve(f"--model-repository={tmp_path}")
    plain = paint(serving.http, "plain", seed=1, num_images=2)
    assert plain.as_numpy("flagged") is None
    flagged = paint(serving.http, "flags", seed=1, num_images=2)
    assert flagged.as_numpy("flagged").tolist() == [True, True]
    pictures = plain.as_numpy("generated_image")
    np.testing.assert_array_equal(flagged.as_numpy("generated_image"), pictures)
    blank = paint(serving.http, "blanks", seed=1)
    assert blank.as_numpy("flagged").tolist() == [True]
    assert blank.as_numpy("generated_image").max() == 0


def test_what_cannot_be_loaded_says_what_helps(serve: Serve, tmp_path: Path) -> None:
    checkers.add_painter(tmp_path, "without", mode="flag")
    checkers.add_painter(tmp_path, "wrong", mode="sometimes")
    (tmp_path / "unfilled" / "1").mkdir(parents=True)
    version = 'parameters { key: "version" value { string_value: "1.5" } }'
    (tmp_path / "unfilled" / "config.pbtxt").write_text(f'backend: "diffusion" {version}')
    serving = serve(f"--model-repository={tmp_path}")
    assert serving.wait() == 1
    command = f"nerite build --model unfilled --model-repository {tmp_path}"
    assert f"To fetch what its version '1.5' names: {command}" in serving.log
    assert "there is no safety checker" in serving.log
    assert "parameter safety_checker is 'sometimes': it must be off, flag, blank" in serving.log


def test_a_backend_of_the_users_takes_precedence(serve: Serve, tmp_path: Path) -> None:
    code = """
        import numpy as np
        import triton_python_backend_utils as pb_utils


        class TritonPythonModel:
            @staticmethod
            def auto_complete_config(config):
                config.add_input({"name": "prompt", "data_type": "TYPE_STRING", "dims": [1]})
                config.add_output({"name": "mine", "data_type": "TYPE_INT32", "dims": [1]})
                return config

            def execute(self, requests):
                mine = pb_utils.Tensor("mine", np.array([42], np.int32))
                return [pb_utils.InferenceResponse([mine]) for _ in requests]
    """
    (tmp_path / "backends" / "diffusion").mkdir(parents=True)
    own = tmp_path / "backends" / "diffusion" / "model.py"
    own.write_text(textwrap.dedent(code))
    checkers.add_painter(tmp_path / "models", "painted")
    options = (f"--backend-directory={tmp_path / 'backends'}",)
    serving = serve(f"--model-repository={tmp_path / 'models'}", *options)
    assert paint(serving.http, "painted").as_numpy("mine").tolist() == [42]
    assert (
        f"backend 'diffusion' of model 'painted' is '{own}', which takes precedence" in serving.log
    )
