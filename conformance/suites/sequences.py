"""Sequence batching: direct and oldest, with and without batches, correlation ids of any type."""

from collections.abc import Callable, Mapping

from conformance.models import Edit, Model, add, custom, made, python, stand_in
from conformance.reasons import Reason
from conformance.suite import Cases, Group, Suite

FIXED, VARIABLE = "qa_sequence_model_repository", "qa_variable_sequence_model_repository"
IMPLICIT_FIXED = "qa_sequence_implicit_model_repository"
IMPLICIT_VARIABLE = "qa_variable_sequence_implicit_model_repository"
ENSEMBLES = "qa_ensemble_model_repository"
PYTHON_TWIN = (Edit(r"^platform:.*", 'backend: "python"'),)
TWIN = ("onnx", "python")

STATELESS = {
    "IMPLICIT_STATE": "0",
    "INITIAL_STATE_FILE": "0",
    "INITIAL_STATE_ZERO": "0",
    "USE_SINGLE_BUFFER": "0",
    "ENSEMBLES": "1",
    "BACKENDS": "onnx custom python",
}

IMPLICIT = {**STATELESS, "IMPLICIT_STATE": "1", "ENSEMBLES": "0", "BACKENDS": "onnx"}

NO_DELAY = (
    "test_simple_sequence",
    "test_length1_sequence",
    "test_batch_size",
    "test_no_sequence_start",
    "test_no_sequence_start2",
    "test_no_sequence_end",
    "test_no_correlation_id",
)
# How long the scheduler waits for requests to come in: (of one sequence, of the backlog).
DELAYED = {
    "test_backlog_fill": (10, 2),
    "test_backlog_fill_no_end": (10, 3),
    "test_backlog_same_correlation_id": (12, 2),
    "test_backlog_same_correlation_id_no_end": (16, 0),
    "test_backlog_sequence_timeout": (4, 0),
    "test_half_batch": (8, 0),
    "test_skip_batch": (12, 0),
    "test_full_batch": (12, 0),
    "test_ragged_batch": (12, 0),
    "test_backlog": (12, 0),
}


def instances(count: int) -> Edit:
    return Edit(r"kind: KIND_(GPU|CPU)", rf"kind: KIND_\1\ncount: {count}")


def batch(size: int) -> Edit:
    return Edit(r"^max_batch_size:.*", f"max_batch_size: {size}")


def delays(scheduler: int, backlog: int) -> Mapping[str, str]:
    return {
        "TRITONSERVER_DELAY_SCHEDULER": str(scheduler),
        "TRITONSERVER_BACKLOG_DELAY_SCHEDULER": str(backlog),
    }


def sequence_models(trial: str) -> tuple[Model, ...]:
    """What `models<trial>` holds: 0 has no batches, v tensors of any length, 1-4 instances."""
    nobatch = "nobatch_" if trial == "0" else ""
    base = VARIABLE if trial == "v" else FIXED
    count = {"0": 4, "v": 1}.get(trial) or int(trial)
    edits = (instances(count),) if nobatch else (batch(4 // count), instances(count))
    files = {"1/model.py": "server/qa/python_models/sequence_int32/model.py"}
    models = [custom("custom_sequence_int32", *edits)]
    for datatype in ("int32", "bool"):
        name = f"onnx_{nobatch}sequence_{datatype}"
        models.append(made(name, base, edits=edits))
        twin = (*PYTHON_TWIN, *edits)
        # The Python twins are made of the models of fixed size, whatever the trial.
        models.append(made(name, base, rename=TWIN, edits=twin, files=files, remove=("*/*.onnx",)))
    ensembles = f"*_onnx_{nobatch}sequence_int32"
    models.append(made(ensembles, f"{ENSEMBLES}/{base}", edits=edits))
    models.append(made(ensembles, f"{ENSEMBLES}/{FIXED}", rename=TWIN, edits=edits))
    models.append(made("nop_*", f"{ENSEMBLES}/{FIXED}"))
    return tuple(models)


def implicit_models(trial: str) -> tuple[Model, ...]:
    """The same of models that leave their state to the server; only ONNX has such."""
    nobatch = "nobatch_" if trial == "0" else ""
    count = {"0": 4, "v": 1}.get(trial) or int(trial)
    edits = (instances(count),) if nobatch else (batch(4 // count), instances(count))
    base = IMPLICIT_VARIABLE if trial == "v" else IMPLICIT_FIXED
    return tuple(
        made(f"onnx_{nobatch}sequence_{datatype}", base, edits=edits)
        for datatype in ("object", "int32", "bool")
    )


def _trial(
    trial: str,
    models: Callable[[str], tuple[Model, ...]] = sequence_models,
    kind: Mapping[str, str] = STATELESS,
) -> tuple[Group, ...]:
    env = {
        **kind,
        "NO_BATCHING": "1" if trial == "0" else "0",
        "MODEL_INSTANCES": {"0": "4", "v": "1"}.get(trial, trial),
        "BATCHER_TYPE": "VARIABLE" if trial == "v" else "FIXED",
    }
    cases: dict[str, Mapping[str, str]] = {name: {} for name in NO_DELAY}
    cases |= {name: delays(*seconds) for name, seconds in DELAYED.items()}
    return tuple(
        Group(
            f"{trial}-{name}",
            (Cases("sequence_batcher_test.py", (name,)),),
            models(trial),
            env={**env, **more},
        )
        for name, more in cases.items()
    )


def _queue_models() -> tuple[Model, ...]:
    models = []
    for datatype, sources in (
        ("int32", (custom("custom_sequence_int32"), made("onnx_sequence_int32", FIXED))),
        ("bool", (made("onnx_sequence_bool", FIXED),)),
    ):
        for suffix, slots in (("", "0"), ("_half", "0.5"), ("_full", "1")):
            direct = "direct { max_queue_delay_microseconds: 3000000 "
            direct += f"minimum_slot_utilization: {slots} }}"
            edits = (
                batch(4),
                instances(1),
                Edit(r"sequence_batching \{", rf"sequence_batching {{ {direct}"),
            )
            rename = (f"sequence_{datatype}", f"sequence_{datatype}{suffix}")
            models += [Model(one.source, rename=rename, edits=edits) for one in sources]
            models.append(
                made(
                    f"onnx_sequence_{datatype}",
                    FIXED,
                    name=f"python_sequence_{datatype}{suffix}",
                    edits=(*PYTHON_TWIN, *edits),
                    files={"1/model.py": "server/qa/python_models/sequence_int32/model.py"},
                    remove=("*/*.onnx",),
                )
            )
    return tuple(models)


FIXED_ONE = {**STATELESS, "NO_BATCHING": "0", "MODEL_INSTANCES": "1", "BATCHER_TYPE": "FIXED"}
DECOUPLED = add("model_transaction_policy { decoupled: true }")


def _ordering_models() -> tuple[Model, ...]:
    preserve = Edit(r"^preserve_ordering: False", "preserve_ordering: True")
    return tuple(
        python("sequence_py", name=f"seqpy_{word}preserve_ordering_{mode}", edits=order + kind)
        for word, order in (("no_", ()), ("", (preserve,)))
        for mode, kind in (("decoupled", (DECOUPLED,)), ("nondecoupled", ()))
    )


SEQUENCE_BATCHER = Suite(
    "L0_sequence_batcher",
    4,
    (
        *(group for trial in "0124v" for group in _trial(trial)),
        Group(
            "ragged",
            (Cases("sequence_batcher_test.py", ("test_ragged_batch_allowed",)),),
            (
                custom(
                    "custom_sequence_int32",
                    Edit(r'name:.*"INPUT"', 'name: "INPUT"\nallow_ragged_batch: true'),
                ),
            ),
            env={**FIXED_ONE, **delays(12, 0)},
        ),
        *(
            Group(
                f"queue-{name}",
                (Cases("sequence_batcher_test.py", (name,)),),
                _queue_models(),
                env={**FIXED_ONE, **delays(2, 0)},
            )
            for name in (
                "test_queue_delay_no_min_util",
                "test_queue_delay_half_min_util",
                "test_queue_delay_full_min_util",
            )
        ),
        Group(
            "request_timeout",
            (Cases("sequence_batcher_test.py", ("SequenceBatcherRequestTimeoutTest",)),),
            env=FIXED_ONE,
            repositories=("request_timeout_models",),
        ),
        Group(
            "preserve_ordering",
            (Cases("sequence_batcher_test.py", ("SequenceBatcherPreserveOrderingTest",)),),
            _ordering_models(),
            env=FIXED_ONE,
        ),
    ),
)

DYNA = "qa_dyna_sequence_model_repository"
STRING_CORRID = Edit(r"(CONTROL_SEQUENCE_CORRID\s*\n\s*)data_type:.*", r"\1data_type: TYPE_STRING")
FOUR = (
    Edit(r"max_candidate_sequences:.*", "max_candidate_sequences: 4"),
    Edit(r"max_queue_delay_microseconds:.*", "max_queue_delay_microseconds: 5000000"),
)


def _dyna_models(*edits: Edit) -> tuple[Model, ...]:
    one = (instances(1), *edits)
    return (
        made("*", DYNA, edits=one),
        custom("custom_dyna_sequence_int32", *one),
        custom(
            "custom_dyna_sequence_int32",
            *one,
            STRING_CORRID,
            name="custom_string_dyna_sequence_int32",
        ),
    )


def _dyna(name: str, models: tuple[Model, ...], no_batching: str) -> Group:
    env = {
        "IMPLICIT_STATE": "0",
        "BACKENDS": "onnx custom custom_string",
        "NO_BATCHING": no_batching,
    }
    return Group(name, (Cases("dyna_sequence_batcher_test.py", (name,)),), models, env=env)


DYNA_SEQUENCE_BATCHER = Suite(
    "L0_dyna_sequence_batcher",
    4,
    (
        _dyna("test_simple_sequence", _dyna_models(), "1"),
        _dyna("test_length1_sequence", _dyna_models(), "1"),
        *(
            _dyna(name, _dyna_models(*FOUR), "0")
            for name in (
                "test_multi_sequence_different_shape",
                "test_multi_sequence",
                "test_multi_parallel_sequence",
                "test_backlog",
                "test_backlog_fill",
                "test_backlog_fill_no_end",
                "test_backlog_sequence_timeout",
            )
        ),
        _dyna(
            "test_multi_sequence_different_shape_allow_ragged",
            (
                custom(
                    "custom_dyna_sequence_int32",
                    instances(1),
                    *FOUR,
                    Edit(r'name:.*"INPUT"', 'name: "INPUT"\nallow_ragged_batch: true'),
                ),
            ),
            "0",
        ),
    ),
)

DIRECT = (
    Edit(r"oldest \{(.|\n)*?\}\s*control_input", "control_input"),
    batch(1),
    instances(4),
)

SEQUENCE_CORRID_BATCHER = Suite(
    "L0_sequence_corrid_batcher",
    4,
    (
        Group(
            "test_skip_batch",
            (Cases("sequence_corrid_batcher_test.py", ("test_skip_batch",)),),
            (
                made("onnx_dyna_sequence_int32", DYNA, edits=DIRECT),
                stand_in("plan", "dyna_sequence_int32", repository=DYNA, edits=DIRECT),
            ),
            env={"NO_BATCHING": "0", "MODEL_INSTANCES": "4", **delays(12, 0)},
        ),
        *(
            Group(
                f"corrid-{datatype}",
                (Cases("sequence_corrid_batcher_test.py", ("test_corrid_data_type",)),),
                (
                    python(
                        "add_sub",
                        edits=(
                            add(
                                'sequence_batching { control_input [{ name: "CORRID" control [{'
                                f" kind: CONTROL_SEQUENCE_CORRID data_type: {datatype} }}] }}] }}"
                            ),
                        ),
                    ),
                ),
                env={
                    "NO_BATCHING": "0",
                    "MODEL_INSTANCES": "4",
                    "TRITONSERVER_CORRID_DATA_TYPE": datatype,
                },
            )
            for datatype in (
                "TYPE_STRING",
                "TYPE_UINT32",
                "TYPE_INT32",
                "TYPE_UINT64",
                "TYPE_INT64",
            )
        ),
    ),
)

# The states are those of the C++ backend's own interface, which a stand-in in Python has not.
STATE_NEW = ("*test_no_implicit_state", "*test_wrong_implicit_state_name")
STATE_OUTPUT = add('output [{ name: "OUTPUT_STATE" data_type: TYPE_INT32 dims: [ 1 ] }]')

IMPLICIT_STATE = Suite(
    "L0_implicit_state",
    4,
    (
        Group(
            "implicit_state",
            (
                Cases(
                    "implicit_state.py",
                    skips={
                        **{name: Reason.CPP for name in STATE_NEW},
                        "*test_implicit_state_growable_memory": Reason.CUDA,
                    },
                ),
            ),
            (
                made("onnx_nobatch_sequence_int32", IMPLICIT_FIXED),
                made(
                    "onnx_nobatch_sequence_int32",
                    IMPLICIT_FIXED,
                    name="onnx_nobatch_sequence_int32_output",
                    edits=(STATE_OUTPUT,),
                ),
            ),
            env=IMPLICIT,
        ),
    ),
)

# What L0_implicit_state/test.sh runs next: the sequence batcher's cases with such models.
IMPLICIT_SEQUENCES = Suite(
    "L0_implicit_state_sequences",
    4,
    tuple(group for trial in "0124v" for group in _trial(trial, implicit_models, IMPLICIT)),
    folder="server/qa/L0_sequence_batcher",
)

ITERATIVE_SEQUENCE = Suite(
    "L0_iterative_sequence",
    4,
    (
        Group(
            "iterative_sequence",
            (Cases("iterative_sequence_e2e.py"),),
            flags=("--model-control-mode=explicit",),
        ),
    ),
)
