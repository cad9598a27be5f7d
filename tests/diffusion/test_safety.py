"""The safety checker of a folder flags what diffusers' own would."""

import numpy as np
import pytest

from nerite.diffusion import SafetyChecker

from . import checkers

torch = pytest.importorskip("torch")
pytest.importorskip("diffusers")

pytestmark = pytest.mark.filterwarnings("ignore")


def test_it_flags_one_picture_and_not_another(tmp_path) -> None:
    checker = SafetyChecker(checkers.write(tmp_path))
    pictures = np.stack([checkers.STRIPES, checkers.PLAIN])
    assert checker.flag(pictures).tolist() == [True, False]
    assert checker.flag(pictures[1:]).tolist() == [False]
    assert (pictures[0] == checkers.STRIPES).all()  # it is looked at, not changed


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
    with pytest.raises(FileNotFoundError, match="holds no safetensors, the only form"):
        SafetyChecker(folder)
    with pytest.raises(FileNotFoundError, match="there is no safety checker"):
        SafetyChecker(tmp_path / "nowhere")
