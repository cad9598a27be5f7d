"""A folder of diffusers is looked at before it is taken: what is missing or broken is named."""

import json
import shutil

import pytest

from nerite import painter
from nerite.sources.bring import Wish, bring
from nerite.sources.folder import survey
from nerite.sources.weights import SourceError, choose_variant, variant_of

PAINTER = painter.REPOSITORY / "painter" / "1"
pytestmark = pytest.mark.filterwarnings("ignore")


def test_what_is_there_is_told() -> None:
    found = survey(PAINTER)
    assert found.pipeline == "StableDiffusionPipeline"
    told = {part.name: (part.kind, part.dtype) for part in found.parts}
    assert told["unet"] == ("UNet2DConditionModel", "float16")
    numbers = sum(part.numbers for part in found.parts)
    assert 10e6 < numbers < 20e6
    assert found.needed(4) == 4 * numbers
    assert "vae_decoder/model.onnx" in found.files


def files_of(folder):
    return {str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()}


def test_files_are_linked_where_they_can_be(tmp_path) -> None:
    source = shutil.copytree(PAINTER, tmp_path / "source")
    bring(str(source), tmp_path / "models" / "mine" / "1", Wish())
    made = tmp_path / "models" / "mine" / "1" / "unet" / "diffusion_pytorch_model.safetensors"
    assert made.samefile(source / "unet" / "diffusion_pytorch_model.safetensors")
    (source / "README.md").write_text("not needed")
    assert files_of(source) - files_of(made.parents[1]) == {"README.md"}


def test_a_folder_of_another_filesystem_is_copied(tmp_path, monkeypatch) -> None:
    def refuse(*_):
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr("os.link", refuse)
    bring(str(PAINTER), tmp_path / "1", Wish())
    name = "unet/diffusion_pytorch_model.safetensors"
    assert (tmp_path / "1" / name).read_bytes() == (PAINTER / name).read_bytes()
    assert not (tmp_path / "1" / name).samefile(PAINTER / name)


def cut(file):
    file.write_bytes(file.read_bytes()[:-10])


def point(file):
    file.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")


@pytest.mark.parametrize(
    ("breaking", "said"),
    [
        (cut, "unet/.*safetensors has .* bytes, and its head says .* again"),
        (point, "is a Git LFS pointer, not the file itself: run `git lfs pull` there"),
        (lambda file: file.write_bytes(b"\xff" * 99), "not a safetensors file, or cut off"),
        (lambda file: file.write_bytes(b""), "not a safetensors file, or cut off"),
        (lambda file: file.unlink(), "unet holds no weights: a .safetensors file or"),
        (lambda file: shutil.rmtree(file.parent), "unet is missing or empty"),
    ],
)
def test_a_broken_folder_is_named_and_nothing_is_left(copied, tmp_path, breaking, said) -> None:
    folder = copied("sd")
    breaking(folder / "unet" / "diffusion_pytorch_model.safetensors")
    with pytest.raises(SourceError, match=said):
        bring(str(folder), tmp_path / "models" / "mine", Wish())
    assert list((tmp_path / "models").iterdir()) == []


def test_a_missing_shard_is_named(copied) -> None:
    folder = copied("sd")
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    names = [f"diffusion_pytorch_model-0000{i}-of-00002.safetensors" for i in (1, 2)]
    shards = [weights.with_name(name) for name in names]
    for shard in shards:
        shutil.copyfile(weights, shard)
    weights.unlink()
    index = {"weight_map": {"a": shards[0].name, "b": shards[1].name}}
    (folder / "unet" / f"{weights.name}.index.json").write_text(json.dumps(index))
    assert len([part for part in survey(folder).parts if len(part.weights) == 2]) == 1
    shards[1].unlink()
    with pytest.raises(SourceError, match=r"00002-of-00002\.safetensors is missing: diffusion"):
        survey(folder)


def test_half_precision_is_taken_where_it_is_wished_or_alone(copied) -> None:
    folder = copied("sd")
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    half = weights.with_name("diffusion_pytorch_model.fp16.safetensors")
    shutil.copyfile(weights, half)

    def chosen(**wish):
        files = survey(folder, **wish).files
        return [name for name in files if name.startswith("unet/") and "safetensors" in name]

    assert chosen() == [f"unet/{weights.name}"]
    assert chosen(variant="fp16") == [f"unet/{half.name}"]
    weights.unlink()
    assert chosen() == [f"unet/{half.name}"]


def test_variants_by_their_names() -> None:
    names = {
        "model.safetensors": "",
        "diffusion_pytorch_model.fp16-00001-of-00002.safetensors": "fp16",
        "model.safetensors.index.fp16.json": "fp16",
        "diffusion_pytorch_model.non_ema.safetensors": "non_ema",
    }
    assert {name: variant_of(name) for name in names} == names
    assert choose_variant(names, "") == ""
    assert choose_variant(["a.non_ema.bin", "a.fp16.bin"], "bf16") == "fp16"


def pickled(folder, part):
    """The part's weights as a pickle alone."""
    import torch
    from safetensors.torch import load_file

    (weights,) = (folder / part).glob("*.safetensors")
    name = "pytorch_model.bin" if weights.stem == "model" else f"{weights.stem}.bin"
    torch.save(load_file(weights), folder / part / name)
    weights.unlink()
    return f"{part}/{name}"


def test_pickles_are_refused_unless_they_are_allowed(copied, made, tmp_path) -> None:
    from safetensors.torch import load_file

    folder = copied("sd")
    names = [pickled(folder, part) for part in ("unet", "text_encoder")]
    with pytest.raises(SourceError, match="is a pickle, which may run code.*--allow-pickle"):
        bring(str(folder), tmp_path / "a", Wish())
    bring(str(folder), tmp_path / "a", Wish(allow_pickle=True))
    assert not list((tmp_path / "a").rglob("*.bin")) and len(names) == 2
    name = "text_encoder/model.safetensors"
    converted, kept = load_file(tmp_path / "a" / name), load_file(made("sd") / name)
    assert converted.keys() == kept.keys()
    assert all((converted[key] == kept[key]).all() for key in kept)


def test_a_pickle_with_code_is_not_run(copied, tmp_path) -> None:
    import torch

    class Trap:
        def __reduce__(self):
            return (open, (str(tmp_path / "sprung"), "w"))

    folder = copied("sd")
    name = pickled(folder, "unet")
    torch.save({"weight": torch.zeros(1), "trap": Trap()}, folder / name)
    with pytest.raises(SourceError, match="holds more than tensors, or is broken"):
        bring(str(folder), tmp_path / "a", Wish(allow_pickle=True))
    assert not (tmp_path / "sprung").exists()


def test_an_optional_part_that_is_only_a_pickle_is_left_out(copied, tmp_path) -> None:
    folder = copied("sd")
    index = json.loads((folder / "model_index.json").read_text())
    index["safety_checker"] = ["stable_diffusion", "StableDiffusionSafetyChecker"]
    (folder / "model_index.json").write_text(json.dumps(index))
    (folder / "safety_checker").mkdir()
    (folder / "safety_checker" / "pytorch_model.bin").write_bytes(b"pickle")
    bring(str(folder), tmp_path / "a", Wish())
    assert not (tmp_path / "a" / "safety_checker").exists()
    written = json.loads((tmp_path / "a" / "model_index.json").read_text())
    assert written["safety_checker"] == [None, None]


def test_a_folder_without_an_index_names_the_file_in_it(tmp_path) -> None:
    (tmp_path / "a.safetensors").write_bytes(b"")
    with pytest.raises(SourceError, match="a folder of diffusers has one; it holds a.safetensors"):
        survey(tmp_path)


def test_the_command(nerite, tmp_path) -> None:
    done = nerite("import", PAINTER, "mine", "--repository", "models")
    assert done.returncode == 0, done.stderr
    assert "Weights take 54.8 MB of memory on a CPU" in done.stdout
    config = (tmp_path / "models" / "mine" / "config.pbtxt").read_text()
    assert config.startswith('name: "mine"\nbackend: "diffusion"\n')
    again = nerite("import", PAINTER, "mine", "--repository", "models")
    assert again.returncode == 1
    assert again.stderr.startswith("nerite import: models/mine is there already")
    nowhere = nerite("import", "/no/such/folder", "other", "--repository", "models")
    assert "is no folder, no file and no id of a hub" in nowhere.stderr
    assert not (tmp_path / "models" / "other").exists()
    for name in ("../up", "", ".hidden"):
        assert "cannot be a model's name" in nerite("import", PAINTER, name).stderr
