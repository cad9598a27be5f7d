"""L0_model_config: folders of configurations, each with what the server must say of it."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from conformance.models import Edit, Model, add
from conformance.reasons import Reason
from conformance.suite import Ask, Group, Logged, Refused, Script, Skipped, Suite

FOLDER = "server/qa/L0_model_config"
ELSEWHERE = {
    "tensorrt": Reason.TENSORRT,
    "openvino": Reason.OPENVINO,
    "pytorch": Reason.LIBTORCH,
}
STRICT = {"strict": "--strict-model-config=true", "disabled": "--disable-auto-complete-config"}
LAX = ("--strict-model-config=false",)
NO_CONFIG = ("no_config", "no_config_variable")
AUTO_COMPLETE = "server/qa/python_models/auto_complete/model.py"
# Where the checkout holds no model.py of its own, the common one completes the configuration.
COMMON = (
    "input_mismatch_datatype",
    "input_mismatch_dims",
    "output_mismatch_datatype",
    "output_mismatch_dims",
    "incomplete_output",
    "unknown_input",
    "unknown_output",
    "empty_config",
)
IDENTITY_ONNX = "data/qa_identity_model_repository/onnx_zero_1_float16/1/model.onnx"


def pattern(text: str) -> str:
    """grep's basic expression as Python's: there, what is special without a backslash is not."""
    return re.sub(r"(\\.)|([(){}|+?])", lambda m: m[1] or "\\" + m[2], text.strip())


def expected(folder: Path, level: str = "E") -> tuple[str, ...]:
    """Any of the folder's `expected` files must stand in a log line of that level."""
    texts = [path.read_text() for path in sorted(folder.glob("expected*"))]
    return tuple(rf"^{level}\d{{4}}.*{pattern(text)}" for text in texts)


def model(kind: str, name: str, target: str = "") -> Model:
    """A configuration with the model that test.sh puts beside it."""
    files: dict[str, str] = {}
    if "/python" in kind and name in COMMON:
        files = {"1/model.py": AUTO_COMPLETE}
    elif kind.endswith("/onnx") and name == "cpu_instance":
        files = {"1/model.onnx": IDENTITY_ONNX}
    return Model(f"{FOLDER}/{kind}/{name}", name=target, files=files)


def repository(root: Path, kind: str, name: str) -> tuple[Model, ...]:
    """The folder as a model, or, where it has no configuration, the models in it."""
    folder = root / "qa" / "L0_model_config" / kind / name
    if (folder / "config.pbtxt").exists() or name in NO_CONFIG + ("no_config_no_batch",):
        return (model(kind, name),)
    inner = sorted(path.name for path in folder.iterdir() if path.is_dir())
    return tuple(model(f"{kind}/{name}", one) for one in inner)


def _names(root: Path, kind: str) -> list[str]:
    folder = root / "qa" / "L0_model_config" / kind
    return sorted(path.name for path in folder.iterdir() if path.is_dir())


def _not_here(kind: str, names: list[str], reason: Reason) -> Group:
    return Group(kind.replace("/", "-"), (Skipped(reason, tuple(names)),))


def _fixed(root: Path) -> Iterator[Group]:
    """Bad configurations that are not completed: the same for every platform."""
    names = _names(root, "noautofill_platform")
    platform = add('platform: "onnxruntime_onnx"')
    for word, flag in STRICT.items():
        for name in names:
            folder = root / "qa" / "L0_model_config" / "noautofill_platform" / name
            source = Model(
                f"{FOLDER}/noautofill_platform/{name}",
                edits=(Edit(r"^.*platform:.*\n", ""), platform),
            )
            check = Refused(name, expected(folder))
            # Without a GPU, models for one run on the CPU here, unless the server is told not to.
            flags = (flag, "--strict-gpu") if name == "invalid_gpu" else (flag,)
            yield Group(f"fixed-{word}-{name}", (check,), (source,), flags)
        for other in ("tensorrt", "pytorch"):
            yield _not_here(f"fixed-{word}-{other}", names, ELSEWHERE[other])


def _completed(root: Path) -> Iterator[Group]:
    """Bad configurations that are completed first."""
    for kind in _names(root, "autofill_noplatform"):
        path = f"autofill_noplatform/{kind}"
        names = _names(root, path)
        if kind in ELSEWHERE:
            yield _not_here(path, names, ELSEWHERE[kind])
            continue
        for name in names:
            check = Refused(name, expected(root / "qa" / "L0_model_config" / path / name))
            yield Group(f"bad-{kind}-{name}", (check,), repository(root, path, name), LAX)


def _successful(root: Path) -> Iterator[Group]:
    """Configurations that are completed as the `expected` files say."""
    for kind in _names(root, "autofill_noplatform_success"):
        path = f"autofill_noplatform_success/{kind}"
        names = _names(root, path)
        if kind in ELSEWHERE:
            yield _not_here(path, names, ELSEWHERE[kind])
            continue
        for name in names:
            if _on_gpu(root / "qa" / "L0_model_config" / path / name):
                yield _not_here(f"good-{kind}-{name}", [name], Reason.CUDA)
                continue
            models = repository(root, path, name)
            # The expected files of a folder of models lie beside them.
            where = f"models/{name}" if (root / "qa/L0_model_config" / path / name).exists() else ""
            arguments = ("--expected_dir", where, "--model", name)
            check = Script(name, "compare_status.py", arguments)
            yield Group(f"good-{kind}-{name}", (check,), models, LAX)


def _on_gpu(folder: Path) -> bool:
    """Whether the instances that are expected are all on GPUs."""
    texts = [path.read_text() for path in folder.glob("expected*")]
    return bool(texts) and all("KIND_GPU" in text for text in texts)


def _others(root: Path) -> Iterator[Group]:
    flags = {
        "cli_override": ("--disable-auto-complete-config", *LAX),
        "cli_deprecation": (STRICT["strict"],),
        "invalid_platform": (STRICT["disabled"],),
    }
    base = root / "qa" / "L0_model_config"
    for name in _names(root, "cli_messages"):
        texts = [pattern(path.read_text()) for path in (base / "cli_messages" / name).glob("exp*")]
        yield Group(name, (Refused(name, tuple(texts)),), _one("cli_messages", name), flags[name])
    for name in _names(root, "special_cases"):
        check = Refused(name, expected(base / "special_cases" / name))
        yield Group(name, (check,), _special(name), flags.get(name, ()))
    histogram = ("--metrics-config=histogram_latencies=true",)
    for kind in _names(root, "model_metrics"):
        for name in _names(root, f"model_metrics/{kind}"):
            models = _one(f"model_metrics/{kind}", name)
            folder = base / "model_metrics" / kind / name
            ready = Ask("ready", f"v2/models/{name}/ready")
            checks: tuple[Ask | Logged | Refused, ...] = (ready,)
            if kind == "valid_config_with_warn":
                checks = (ready, Logged("warning", expected(folder, "W")[0]))
            elif kind == "invalid_config":
                checks = (Refused(name, expected(folder)),)
            yield Group(f"metrics-{name}", checks, models, histogram)
    names = [path.name for path in base.glob("custom_parameters/tensorrt/*/*")]
    yield _not_here("custom_parameters", sorted(names), Reason.TENSORRT)


def _one(kind: str, name: str) -> tuple[Model, ...]:
    if kind.startswith("model_metrics"):
        code = "server/qa/python_models/async_execute_decouple"
        partial = f"{FOLDER}/{kind}/{name}/partial.pbtxt"
        return (Model(code, name=name, more=(partial,)),)
    return (Model(f"{FOLDER}/{kind}/{name}"),)


def _special(name: str) -> tuple[Model, ...]:
    source = f"{FOLDER}/special_cases/{name}"
    if name == "invalid_platform":
        onnx = "data/qa_model_repository/onnx_float32_float32_float32/1/model.onnx"
        return (Model(source, files={"1/model.onnx": onnx}),)
    if name == "runtime_escape":
        return (Model(source, edits=(add("", "dummy_runtime/libtriton_identity.so"),)),)
    return (Model(source),)


def groups(roots: Mapping[str, Path]) -> tuple[Group, ...]:
    """All of the suite, from the checkout's folders."""
    root = roots["server"]
    return (*_fixed(root), *_completed(root), *_successful(root), *_others(root))


MODEL_CONFIG = Suite("L0_model_config", 3, groups)
