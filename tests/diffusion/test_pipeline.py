"""Opening folders: the good, and a sentence for each of the bad."""

import json
import shutil
import subprocess
import sys

import pytest

from nerite.diffusion import InvalidParams, Params, find_model_folder, open_pipeline
from nerite.painter import REPOSITORY


@pytest.fixture
def folder(tiny, tmp_path):
    return shutil.copytree(tiny[0], tmp_path / "model")


def edit(path, **change):
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))


def test_importing_the_library_costs_numpy_only():
    code = "import sys, nerite.diffusion; print(*sys.modules)"
    modules = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    roots = {name.partition(".")[0] for name in modules}
    assert "numpy" in roots
    assert not roots & {"onnxruntime", "tokenizers", "torch", "transformers", "diffusers", "PIL"}


def test_a_version_folder_is_the_model_or_holds_the_only_one(tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no model_index.json, nor does a folder"):
        find_model_folder(tmp_path)
    (tmp_path / "tiny").mkdir()
    (tmp_path / "notes").mkdir()
    (tmp_path / "tiny" / "model_index.json").write_text("{}")
    assert find_model_folder(tmp_path) == tmp_path / "tiny"
    (tmp_path / "notes" / "model_index.json").write_text("{}")
    with pytest.raises(ValueError, match=r"several model folders \(notes, tiny\)"):
        find_model_folder(tmp_path)
    (tmp_path / "model_index.json").write_text("{}")
    assert find_model_folder(tmp_path) == tmp_path
    with pytest.raises(FileNotFoundError, match="is not a folder"):
        find_model_folder(tmp_path / "nowhere")


def test_limits_follow_the_folder(folder):
    limits = open_pipeline(folder, threads=1).limits
    assert (limits.width, limits.height, limits.max_size) == (64, 64, 256)
    assert (limits.size_multiple, limits.max_steps) == (8, 1000)
    edit(folder / "unet" / "config.json", sample_size=64)
    assert open_pipeline(folder, threads=1).limits.max_size == 1024
    edit(folder / "unet" / "config.json", sample_size=[32, 64])
    limits = open_pipeline(folder, threads=1).limits
    assert (limits.width, limits.height, limits.max_size) == (512, 256, 1024)
    edit(folder / "scheduler" / "scheduler_config.json", num_train_timesteps=500)
    with pytest.raises(InvalidParams, match="from 1 to 500"):
        open_pipeline(folder, threads=1).check(Params("a", steps=501, width=64, height=64))


def test_check_knows_the_schedulers(folder):
    pipeline = open_pipeline(folder, threads=1)
    pipeline.check(Params("a", width=64, height=64, scheduler="DPM++ 2M Karras"))
    with pytest.raises(InvalidParams, match="unknown scheduler 'magic'; known: ddim") as refusal:
        pipeline.check(Params("a", width=64, height=64, scheduler="magic"))
    assert refusal.value.field == "scheduler"


BROKEN = {
    "no index": (
        lambda folder: (folder / "model_index.json").unlink(),
        FileNotFoundError,
        "holds no model_index.json",
    ),
    "index is no JSON": (
        lambda folder: (folder / "model_index.json").write_text("{"),
        ValueError,
        "model_index.json is not JSON",
    ),
    "another pipeline": (
        lambda folder: edit(folder / "model_index.json", _class_name="FluxPipeline"),
        ValueError,
        "model cannot be loaded: ",
    ),
    "weights in a pickle": (
        lambda folder: (folder / "unet" / "model.onnx").rename(folder / "unet" / "x.bin"),
        FileNotFoundError,
        "holds only x.bin, a pickle; weights in safetensors or a model.onnx are expected",
    ),
    "weights cut off": (
        lambda folder: (folder / "unet" / "model.onnx").rename(
            folder / "unet" / "diffusion_pytorch_model.safetensors"
        ),
        ValueError,
        "text_encoder cannot be loaded: ",
    ),
    "no decoder": (
        lambda folder: shutil.rmtree(folder / "vae_decoder"),
        FileNotFoundError,
        "vae_decoder/model.onnx is missing",
    ),
    "half a download": (
        lambda folder: (folder / "vae_decoder" / "model.onnx").write_bytes(b"\x08\x07\x12\xff"),
        ValueError,
        "vae_decoder/model.onnx cannot be loaded",
    ),
    "no scheduler": (
        lambda folder: shutil.rmtree(folder / "scheduler"),
        FileNotFoundError,
        "scheduler_config.json is missing",
    ),
    "a scheduler of others": (
        lambda folder: edit(
            folder / "scheduler" / "scheduler_config.json", _class_name="EDMEulerScheduler"
        ),
        ValueError,
        "scheduler_config.json: unknown scheduler 'EDMEulerScheduler'; known: ddim",
    ),
    "no tokenizer": (
        lambda folder: shutil.rmtree(folder / "tokenizer"),
        FileNotFoundError,
        "needs vocab.json and merges.txt",
    ),
    "networks swapped": (
        lambda folder: shutil.copy(
            folder / "vae_decoder" / "model.onnx", folder / "unet" / "model.onnx"
        ),
        ValueError,
        "unet/model.onnx has inputs latent_sample; expected are exactly sample, timestep",
    ),
    "a VAE of another factor": (
        lambda folder: edit(folder / "vae" / "config.json", block_out_channels=[8, 8, 8]),
        ValueError,
        "do not work together: the decoder made",
    ),
    "inpainting": (
        lambda folder: edit(folder / "unet" / "config.json", out_channels=3),
        ValueError,
        "takes 4 channels and gives 3",
    ),
}


@pytest.mark.parametrize(("break_it", "error", "message"), BROKEN.values(), ids=BROKEN.keys())
def test_a_folder_that_cannot_be_served_says_why(folder, break_it, error, message):
    break_it(folder)
    with pytest.raises(error, match=message):
        open_pipeline(folder, threads=1)


@pytest.mark.parametrize("device", ["cuda", "cuda:1", "tpu", "cuda:x"])
def test_a_device_that_is_not_there_is_refused(folder, device):
    import onnxruntime

    if device != "tpu" and "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this onnxruntime has CUDA")
    with pytest.raises(ValueError, match=f"device is '{device}'"):
        open_pipeline(folder, device=device)


def test_an_export_of_one_fixed_size_is_refused(tiny, folder):
    torch = pytest.importorskip("torch")
    example = (torch.randn(2, 4, 8, 8), torch.rand(2), torch.randn(2, 77, 16))
    names = ["sample", "timestep", "encoder_hidden_states"]
    path = folder / "unet" / "model.onnx"
    with pytest.warns(), torch.no_grad():
        torch.onnx.export(tiny[1].unet, example, path, input_names=names, dynamo=False)
    with pytest.raises(ValueError, match=r"exported for sample .* only: export it with dynamic"):
        open_pipeline(folder, threads=1)


def test_a_graph_may_share_the_weights_file_of_a_sibling(folder):
    """As the painter's decoder and encoder do, so that no weight is stored twice."""
    onnx = pytest.importorskip("onnx")
    path, weights = folder / "vae_decoder" / "model.onnx", folder / "vae" / "x.safetensors"
    model, moved = onnx.load(path), b""
    for tensor in model.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT:
            data = onnx.numpy_helper.to_array(tensor).tobytes()
            place = {"location": "../vae/x.safetensors", "offset": len(moved), "length": len(data)}
            tensor.ClearField("raw_data")
            tensor.data_location = onnx.TensorProto.EXTERNAL
            for key, value in place.items():
                tensor.external_data.add(key=key, value=str(value))
            moved += data
    path.write_bytes(model.SerializeToString())
    assert moved
    weights.write_bytes(moved)
    (folder / "unet" / "empty.safetensors").touch()
    open_pipeline(folder, threads=1)
    weights.rename(folder / "x.safetensors")
    with pytest.raises(ValueError, match="vae_decoder/model.onnx cannot be loaded"):
        open_pipeline(folder, threads=1)


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 5\n"


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino", "torch"])
@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (lambda whole: whole[:100_000], "has 100000 bytes, and its head says [0-9]+: download"),
        (lambda whole: whole[:7], "is not a safetensors file, or cut off: it has less than 8"),
        (lambda whole: POINTER, "is a Git LFS pointer, not the file itself: run `git lfs pull`"),
    ],
    ids=["cut off", "begun", "pointer"],
)
def test_weights_that_are_not_whole_are_named(tmp_path, runtime, broken, message):
    pytest.importorskip({"torch": "diffusers"}.get(runtime, runtime))
    copy = shutil.copytree(REPOSITORY / "painter" / "1", tmp_path / "painter")
    weights = copy / "unet" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(broken(weights.read_bytes()))
    with pytest.raises(ValueError, match=rf"unet.* cannot be loaded: {weights} {message}"):
        open_pipeline(copy, threads=1, runtime=runtime)
