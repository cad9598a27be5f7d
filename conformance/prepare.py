"""Makes the models that Triton's checkout has generators for, once for each work folder."""

import os
import subprocess
import sys
from pathlib import Path

# Triton's own pin: files of newer onnx are too new for today's onnxruntime.
REQUIREMENTS = ("onnx==1.20.1", "numpy", "ml_dtypes")

PLAIN, VARIABLE, ENSEMBLE = ("--onnx",), ("--onnx", "--variable"), ("--ensemble",)
ZERO = ("--initial-state", "zero")

# With our own interpreter: the generators' has no torch.
TORCH = "gen_qa_pytorch_model"

# Folder under data/, the generator in qa/common, its flags. Ensembles come after what they use.
GENERATED = (
    ("qa_model_repository", "gen_qa_models", PLAIN),
    ("qa_variable_model_repository", "gen_qa_models", VARIABLE),
    ("qa_identity_model_repository", "gen_qa_identity_models", PLAIN),
    ("qa_reshape_model_repository", "gen_qa_reshape_models", VARIABLE),
    ("qa_sequence_model_repository", "gen_qa_sequence_models", PLAIN),
    ("qa_variable_sequence_model_repository", "gen_qa_sequence_models", VARIABLE),
    ("qa_sequence_implicit_model_repository", "gen_qa_implicit_models", PLAIN),
    ("qa_variable_sequence_implicit_model_repository", "gen_qa_implicit_models", VARIABLE),
    (
        "qa_sequence_initial_state_implicit_model_repository",
        "gen_qa_implicit_models",
        PLAIN + ZERO,
    ),
    ("qa_dyna_sequence_model_repository", "gen_qa_dyna_sequence_models", PLAIN),
    (
        "qa_dyna_sequence_implicit_model_repository",
        "gen_qa_dyna_sequence_implicit_models",
        PLAIN,
    ),
    ("qa_pytorch_model_repository", TORCH, ()),
    ("qa_ragged_model_repository", "gen_qa_ragged_models", PLAIN),
    ("qa_ensemble_model_repository/qa_model_repository", "gen_qa_models", ENSEMBLE),
    (
        "qa_ensemble_model_repository/qa_variable_model_repository",
        "gen_qa_models",
        (*ENSEMBLE, "--variable"),
    ),
    ("qa_ensemble_model_repository/qa_reshape_model_repository", "gen_qa_reshape_models", ENSEMBLE),
    (
        "qa_ensemble_model_repository/qa_identity_model_repository",
        "gen_qa_identity_models",
        ENSEMBLE,
    ),
    (
        "qa_ensemble_model_repository/qa_sequence_model_repository",
        "gen_qa_sequence_models",
        ENSEMBLE,
    ),
    (
        "qa_ensemble_model_repository/qa_variable_sequence_model_repository",
        "gen_qa_sequence_models",
        (*ENSEMBLE, "--variable"),
    ),
)


def generate(server: Path, work: Path) -> Path:
    """The folder of generated models; asks the package index for onnx the first time."""
    data = work / "data"
    missing = [entry for entry in GENERATED if not (data / entry[0] / ".made").exists()]
    if not missing:
        return data
    python = _interpreter(work / "generators")
    common = server / "qa" / "common"
    for folder, script, flags in missing:
        target = data / folder
        target.mkdir(parents=True, exist_ok=True)
        name, place = (str(python), "--models_dir")
        if script == TORCH:
            name, place = (sys.executable, "--model-directory")
        command = [name, str(common / f"{script}.py"), *flags, f"{place}={target}"]
        _run(command, work / f"generate-{target.name}.log", cwd=common)
        (target / ".made").touch()
    return data


def _interpreter(folder: Path) -> Path:
    python = folder / "bin" / "python"
    if not (folder / ".made").exists():
        log = folder.with_suffix(".log")
        _run([sys.executable, "-m", "venv", str(folder)], log)
        _run([str(python), "-m", "pip", "install", "--quiet", *REQUIREMENTS], log)
        (folder / ".made").touch()
    return python


def _run(command: list[str], log: Path, cwd: Path | None = None) -> None:
    log.parent.mkdir(parents=True, exist_ok=True)
    env = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    with log.open("wb") as output:
        done = subprocess.run(command, stdout=output, stderr=output, cwd=cwd, env=env, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} failed, see {log}")
