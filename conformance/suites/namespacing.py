"""L0_model_namespacing: models of two repositories that have the same name."""

from conformance.suite import Cases, Group, Suite

MODES = {
    "Poll": ("--model-control-mode=POLL", "--repository-poll-secs=2"),
    "Explicit": ("--model-control-mode=EXPLICIT",),
}
TESTS = (
    "test_duplication",
    "test_dynamic_resolution",
    "test_ensemble_duplication",
    "test_no_duplication",
)


def _group(mode: str, test: str) -> Group:
    return Group(
        f"{mode}-{test}",
        (Cases("test.py", (f"ModelNamespace{mode}.{test}",)),),
        flags=("--model-namespacing=true", *MODES[mode]),
        env={
            "TRITON_QA_ROOT_DIR": "{here}/..",
            "TRITON_QA_PYTHON_MODEL_DIR": "{here}",
            "NAMESPACE_TESTING_DIRCTORY": f"{{here}}/{test}",
            "PYTHONDONTWRITEBYTECODE": "1",
        },
        repositories=(f"{test}/addsub_repo", f"{test}/subadd_repo"),
    )


MODEL_NAMESPACING = Suite(
    "L0_model_namespacing", 3, tuple(_group(mode, test) for mode in MODES for test in TESTS)
)
