"""A model of a hub, from a stand-in that HF_ENDPOINT names: nothing else is asked for."""

import os
import shutil

import pytest
from tests.sources import hub

from nerite import painter

PAINTER = painter.REPOSITORY / "painter" / "1"


@pytest.fixture
def models(tmp_path):
    """A hub's content: acme/painter with what hubs hold besides, and acme/single."""
    folder = tmp_path / "hub" / "acme" / "painter"
    shutil.copytree(PAINTER, folder)
    (folder / "unet" / "diffusion_pytorch_model.bin").write_bytes(b"a pickle beside")
    (folder / "README.md").write_text("a card")
    single = tmp_path / "hub" / "acme" / "single"
    single.mkdir()
    (single / "all.safetensors").write_bytes(b"")
    return tmp_path / "hub"


@pytest.fixture
def importing(nerite, tmp_path):
    def run(source, server, **more):
        environment = {**os.environ, "HF_ENDPOINT": server.url, "HF_HOME": str(tmp_path / "home")}
        environment.pop("HF_TOKEN", None)
        return nerite("import", source, "mine", env=environment | more)

    return run


def test_what_serving_needs_is_downloaded_and_no_more(importing, models, tmp_path) -> None:
    with hub.serve(models) as server:
        done = importing("acme/painter", server)
    assert done.returncode == 0, done.stderr
    made = tmp_path / "models" / "mine" / "1"
    name = "unet/diffusion_pytorch_model.safetensors"
    assert (made / name).read_bytes() == (PAINTER / name).read_bytes()
    assert not (made / name).is_symlink()
    got = {path.split("/", 5)[5] for command, path, _ in server.asked if "/resolve/" in path}
    assert got == {file.relative_to(made).as_posix() for file in made.rglob("*") if file.is_file()}
    assert not {"README.md", "unet/diffusion_pytorch_model.bin", "unet/model.onnx"} & got


def test_what_was_downloaded_is_not_downloaded_again(importing, models, tmp_path) -> None:
    with hub.serve(models) as server:
        importing("acme/painter", server)
        shutil.rmtree(tmp_path / "models")
        server.asked.clear()
        assert importing("acme/painter@main", server).returncode == 0
    asked = [path for command, path, _ in server.asked if command == "GET"]
    assert asked and not any("/resolve/" in path for path in asked)


def test_a_gated_model_names_its_licence_page(importing, models, tmp_path) -> None:
    with hub.serve(models, gated=True) as server:
        done = importing("acme/painter", server)
        page = f"accept its licence at {server.url}/acme/painter, log in with `hf auth login` or"
        assert done.returncode == 1 and page in done.stderr
        assert "Traceback" not in done.stderr
        assert importing("acme/painter", server, HF_TOKEN="good").returncode == 0
        assert not (tmp_path / "models" / "mine" / "1" / ".importing").exists()


def test_a_cached_login_is_used(importing, models, tmp_path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "token").write_text("good")
    with hub.serve(models, gated=True) as server:
        assert importing("acme/painter", server).returncode == 0
    assert {token for *_, token in server.asked if token} == {"Bearer good"}


def test_a_pickle_is_refused_before_it_is_downloaded(importing, models) -> None:
    (models / "acme" / "painter" / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    (models / "acme" / "painter" / "unet" / "model.onnx").unlink()
    with hub.serve(models) as server:
        done = importing("acme/painter", server)
    assert "unet/diffusion_pytorch_model.bin is a pickle" in done.stderr
    assert not any(path.endswith(".safetensors") for _, path, _ in server.asked)


def test_what_is_not_there_is_said(importing, models) -> None:
    with hub.serve(models) as server:
        missing = importing("acme/nothing", server)
        assert f"there is no model acme/nothing at {server.url}/acme/nothing" in missing.stderr
        single = importing("acme/single", server)
        assert "no pipeline of diffusers; download its all.safetensors" in single.stderr
