"""The safety checker of a folder flags what diffusers' own would."""

import subprocess
import sys
import textwrap

import numpy as np
import pytest

from nerite.diffusion import SafetyChecker, export

from . import checkers

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(params=["safetensors", "graph"])
def folder(request, tmp_path):
    """A folder whose checker flags stripes, in each of the forms that are read."""
    written = checkers.write(tmp_path)
    if request.param == "graph":
        to_graph(written)
    return written


def to_graph(folder) -> None:
    """The checker in ``folder`` as diffusers' ONNX layout has it: a model.onnx alone."""
    from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker

    part = folder / "safety_checker"
    network = StableDiffusionSafetyChecker.from_pretrained(part).eval()
    for file in part.iterdir():
        file.unlink()
    export.write_graph(network, export.graph_of(part.name, network), part, export.OPSET)


def test_it_flags_one_picture_and_not_another(folder) -> None:
    checker = SafetyChecker(folder)
    pictures = np.stack([checkers.STRIPES, checkers.PLAIN])
    assert checker.flag(pictures).tolist() == [True, False]
    assert checker.flag(pictures[1:]).tolist() == [False]
    assert (pictures[0] == checkers.STRIPES).all()  # it is looked at, not changed


def test_a_graph_needs_no_torch(tmp_path) -> None:
    to_graph(checkers.write(tmp_path))
    code = """
        import pathlib, sys
        import numpy as np
        from nerite.diffusion import SafetyChecker

        checker = SafetyChecker(pathlib.Path(sys.argv[1]))
        checker.flag(np.zeros((1, 64, 64, 3), np.uint8))
        assert "torch" not in sys.modules
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(code), str(tmp_path)], check=True)


def test_another_graph_is_refused(tmp_path) -> None:
    part = tmp_path / "safety_checker"
    inputs = {"sample": (torch.ones(1, 2), "b?")}
    same = export.Graph(part.name, lambda sample: sample + 0, inputs, ["out"])
    export.write_graph(torch.nn.Linear(2, 2), same, part, export.OPSET)
    with pytest.raises(ValueError, match=r"safety_checker/model.onnx has inputs sample; expected"):
        SafetyChecker(tmp_path)


@pytest.mark.parametrize("size", [(64, 96), (100, 37), (32, 32)])
def test_it_sees_what_transformers_shows_it(tmp_path, size) -> None:
    from PIL import Image
    from transformers import CLIPImageProcessorPil

    folder = checkers.write(tmp_path)
    picture = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    processor = CLIPImageProcessorPil.from_pretrained(folder / "feature_extractor")
    expected = processor([Image.fromarray(picture)], return_tensors="np").pixel_values[0]
    assert np.abs(SafetyChecker(folder)._prepare(picture) - expected).max() < 1e-5


def test_a_pickle_is_not_read(tmp_path) -> None:
    folder = checkers.write(tmp_path)
    weights = folder / "safety_checker" / "model.safetensors"
    torch.save({}, weights.with_name("pytorch_model.bin"))
    weights.unlink()
    with pytest.raises(FileNotFoundError, match="holds neither safetensors nor a model.onnx"):
        SafetyChecker(folder)
    with pytest.raises(FileNotFoundError, match="there is no safety checker"):
        SafetyChecker(tmp_path / "nowhere")
