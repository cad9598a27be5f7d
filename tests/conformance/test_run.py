"""The runner on a toy suite: cases are recorded one by one, and skips have a reason."""

import os
from pathlib import Path

import pytest
from conformance import inside, matrix
from conformance.matrix import Case
from conformance.models import Edit, Model, add, fill_versions
from conformance.reasons import Reason
from conformance.run import Place, run_suite, run_tests
from conformance.suite import Ask, Cases, Group, Logged, Refused, Script, Skipped, Suite

CASES = """
import os, unittest

class Toy(unittest.TestCase):
    def test_good(self):
        self.assertEqual(os.environ["ASKED"], "yes")

    def test_bad(self):
        self.fail("as it should")

    def test_subtests(self):
        for number in range(3):
            with self.subTest(number=number):
                self.assertNotEqual(number, 1)

    def test_gpu(self):
        self.fail("no GPU here")

    def test_shy(self):
        self.skipTest("not today")

    def run(self, result=None):
        # Triton's base class does this: it needs what unittest's own result has.
        counted = super().run(result)
        assert counted.testsRun + len(counted.errors) + len(counted.failures) >= 0

    def test_z_dies(self):
        os._exit(1)
"""
MODEL = """
import triton_python_backend_utils as pb_utils

class TritonPythonModel:
    def execute(self, requests):
        return [pb_utils.InferenceResponse(request.inputs()) for request in requests]
"""


@pytest.fixture(autouse=True)
def packages(monkeypatch: pytest.MonkeyPatch) -> None:
    """The recorder and nerite are found by the processes that the runner starts."""
    root = Path(__file__).parents[2]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(root / "src"), str(root)]))


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    folder = tmp_path / "server" / "qa" / "L0_toy"
    folder.mkdir(parents=True)
    (folder / "toy_test.py").write_text(CASES)
    return tmp_path / "server"


def test_each_case_is_recorded(checkout: Path) -> None:
    place = Place({}, checkout / "qa" / "L0_toy", {"ASKED": "yes"})
    tests = Cases("toy_test.py", skips={"*gpu": Reason.CUDA})
    found = {case.name: case for case in run_tests("one", tests, place, pid=1)}
    assert {name: case.outcome for name, case in found.items()} == {
        "Toy.test_good": "passed",
        "Toy.test_bad": "failed",
        "Toy.test_subtests": "failed",
        "Toy.test_gpu": "skipped",
        "Toy.test_shy": "failed",
        "Toy.test_z_dies": "failed",
    }
    assert "as it should" in found["Toy.test_bad"].told
    assert found["Toy.test_gpu"].reason is Reason.CUDA
    assert "not today" in found["Toy.test_shy"].told
    assert "did not end" in found["Toy.test_z_dies"].told


def test_cases_are_chosen_by_name(checkout: Path) -> None:
    place = Place({}, checkout / "qa" / "L0_toy", {"ASKED": "yes"})
    for only in ("test_good", "Toy.test_good"):
        cases = list(run_tests("one", Cases("toy_test.py", (only,)), place, pid=1))
        assert [(case.name, case.outcome) for case in cases] == [("Toy.test_good", "passed")]
    (missing,) = run_tests("one", Cases("toy_test.py", ("test_none",)), place, pid=1)
    assert (missing.name, missing.outcome) == ("test_none", "failed")


def test_cases_without_a_server_fail_by_name(checkout: Path) -> None:
    place = Place({}, checkout / "qa" / "L0_toy", {})
    place.log.write_text("+--+\nerror: creating server\n")
    cases = list(run_tests("one", Cases("toy_test.py"), place, pid=None))
    assert len(cases) == 6
    assert {case.outcome for case in cases} == {"failed"}
    assert "creating server" in cases[0].told


def test_a_skip_needs_a_reason_of_the_list() -> None:
    with pytest.raises(ValueError):
        Case("one", "test_any", "skipped")
    with pytest.raises(ValueError):
        Case("one", "test_any", "passed", reason=Reason.CUDA)
    with pytest.raises(ValueError):
        Reason("it is slow")


def test_the_matrix_counts(tmp_path: Path) -> None:
    cases = [
        Case("one", "a", "passed"),
        Case("one", "b", "passed"),
        Case("one", "c", "failed", "why"),
        Case("two", "d", "skipped", reason=Reason.CUDA),
        Case("two", "e", "skipped", reason=Reason.CPP),
        Case("two", "f", "skipped", reason=Reason.CUDA),
    ]
    matrix.save(tmp_path / "toy.json", cases)
    assert matrix.load(tmp_path / "toy.json") == cases
    row = matrix.row("toy", cases)
    assert row == ("toy", "6", "3", "2", "1", "2 CUDA, 1 a C++ build")
    assert matrix.markdown([row]).splitlines()[-1] == (
        "| all | 6 | 3 | 2 | 1 | 66.7 % of the portable pass |"
    )
    assert "66.7 %" in matrix.text([row])


def test_a_model_is_copied_and_changed(checkout: Path, tmp_path: Path) -> None:
    source = checkout / "qa" / "python_models" / "add"
    source.mkdir(parents=True)
    (source / "model.py").write_text("# code\n")
    (source / "config.pbtxt").write_text('name: "add"\nmax_batch_size: 8\n')
    edits = (Edit(r"^max_batch_size:.*", "max_batch_size: 4"), add("dynamic_batching {}"))
    model = Model("server/qa/python_models/a*", name="other", edits=edits)
    model.make(tmp_path, {"server": checkout})
    made = tmp_path / "models" / "other"
    assert (made / "1" / "model.py").read_text() == "# code\n"
    text = (made / "config.pbtxt").read_text()
    assert text.split("\n") == ['name: "other"', "max_batch_size: 4", "", "dynamic_batching {}", ""]
    with pytest.raises(FileNotFoundError):
        Model("server/qa/python_models/b*").make(tmp_path, {"server": checkout})


def test_a_model_without_a_version_gets_one(tmp_path: Path) -> None:
    (tmp_path / "ensemble").mkdir()
    (tmp_path / "ensemble" / "config.pbtxt").touch()
    fill_versions(tmp_path)
    assert (tmp_path / "ensemble" / "1").is_dir()


def test_a_suite_runs_against_our_server(
    checkout: Path, tmp_path: Path, free_ports: tuple[int, int, int]
) -> None:
    ports = tuple(
        f"--{name}-port={port}"
        for name, port in zip(("http", "grpc", "metrics"), free_ports, strict=True)
    )
    config = 'backend: "python"\ninput [{ name: "A" data_type: TYPE_INT32 dims: [ 1 ] }]\n'
    config += 'output [{ name: "A" data_type: TYPE_INT32 dims: [ 1 ] }]'
    echo = Model(name="echo", config=config, edits=(add(MODEL, "1/model.py"),))
    (checkout / "qa" / "L0_toy" / "hello.py").write_text("print('hello')\n")
    suite = Suite(
        "L0_toy",
        3,
        (
            Group(
                "serving",
                (
                    Ask("ready", "v2/models/echo/ready"),
                    Ask("unknown", "v2/models/no/ready", ok=False, status=404),
                    Script("hello", "hello.py", prints="hello"),
                    Logged("started", "Started HTTPService"),
                    Skipped(Reason.CPP, ("cc_test",)),
                ),
                (echo,),
                ports,
            ),
            Group("refused", (Refused("bad flag", ("zzz",)),), flags=("--zzz=1", *ports)),
        ),
    )
    http = f"localhost:{free_ports[0]}"
    cases = list(run_suite(suite, {"server": checkout}, tmp_path / "work", http=http))
    assert {case.name: (case.outcome, case.told) for case in cases} == {
        "ready": ("passed", ""),
        "unknown": ("passed", ""),
        "hello": ("passed", ""),
        "started": ("passed", ""),
        "cc_test": ("skipped", ""),
        "bad flag": ("passed", ""),
    }


INSIDE = """
import unittest

class Some(unittest.TestCase):
    def test_a(self): ...
    def helper(self): ...
    def test_b(self): ...

class Model:
    def test_it(self): ...
"""


def test_cases_inside_a_model_are_told_by_its_log(tmp_path: Path) -> None:
    (tmp_path / "model.py").write_text(INSIDE)
    found = inside.names(tmp_path / "model.py")
    assert found == ["test_a", "test_b"]
    asked = Case("one", "asking", "failed", "it said 0")
    log = '"[m_0_0] FAIL: test_b (model.Some.test_b)"\n"[m_0_0] Ran 2 tests in 0.1s"\n'
    outcomes = {case.name: case.outcome for case in inside.read("one", found, asked, log, {})}
    assert outcomes == {"test_a": "passed", "test_b": "failed"}
    skips = {"test_b": Reason.CUDA}
    outcomes = {case.name: case.outcome for case in inside.read("one", found, asked, log, skips)}
    assert outcomes == {"test_a": "passed", "test_b": "skipped"}
    # It was killed before it had run them.
    assert [case.told for case in inside.read("one", found, asked, "", {})] == ["it said 0"] * 2
