"""HTTP requests, from nearly right to hopeless: JSON trees, binary tails whose sizes lie, headers,
chunks, compression, and bytes that are no HTTP at all."""

import gzip
import json
import zlib
from typing import Any, NamedTuple

from hypothesis import strategies as st

from .conftest import KINDS, MODELS


class Case(NamedTuple):
    """Bytes for a connection. complete: all of the request that its head promises, or more;
    what is less need not be answered, but its connection must end."""

    data: bytes
    complete: bool


_SCALARS: st.SearchStrategy[Any] = (
    st.none()
    | st.booleans()
    | st.integers(-(2**65), 2**65)
    | st.integers(-3, 5)
    | st.floats()
    | st.text(max_size=12)
)
TREES: st.SearchStrategy[Any] = st.recursive(
    _SCALARS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=12,
)
_DATATYPES = [*KINDS[:-1], "BYTES", "fp32", ""]
_SHAPES = st.lists(st.integers(0, 4) | st.sampled_from([-1, 2**31, 2**62]), max_size=3)
_PARAMETERS = st.dictionaries(
    st.sampled_from(
        ["sequence_id", "sequence_start", "priority", "timeout", "binary_data_output", "triton_x"]
    )
    | st.text(max_size=6),
    _SCALARS,
    max_size=3,
)
_MEMORY = st.fixed_dictionaries(
    {"shared_memory_region": st.text(max_size=3)},
    optional={
        "shared_memory_byte_size": st.integers(-1, 64),
        "shared_memory_offset": st.integers(-1, 2**63),
    },
)
_NAMES = st.sampled_from(["IN", *(f"IN_{kind}" for kind in KINDS)]) | st.text(max_size=5)
_INPUTS = st.fixed_dictionaries(
    {
        "name": _NAMES,
        "shape": _SHAPES,
        "datatype": st.sampled_from(_DATATYPES),
    },
    optional={
        "data": st.lists(_SCALARS, max_size=5) | st.lists(st.lists(st.integers(0, 3)), max_size=3),
        "parameters": st.fixed_dictionaries({"binary_data_size": st.integers(-1, 40)}) | _MEMORY,
    },
)
_OUTPUTS = st.fixed_dictionaries(
    {"name": st.sampled_from(["OUT", *(f"OUT_{kind}" for kind in KINDS)]) | st.text(max_size=5)},
    optional={
        "parameters": st.dictionaries(
            st.sampled_from(["binary_data", "classification", "binary_data_size"]), _SCALARS
        )
        | _MEMORY
    },
)
_QUESTIONS = st.fixed_dictionaries(
    {"inputs": st.lists(_INPUTS, max_size=3)},
    optional={
        "id": st.text(max_size=5),
        "parameters": _PARAMETERS,
        "outputs": st.lists(_OUTPUTS, max_size=3),
    },
)
# Requests that models answer: mutations of these get further than what is made up.
_RIGHT: list[Any] = [
    {"inputs": [{"name": "IN", "shape": [1, 2], "datatype": "FP32", "data": [1.5, 2]}]},
    {"inputs": [{"name": "IN_STRING", "shape": [2], "datatype": "BYTES", "data": ["a", "b"]}]},
    {
        "id": "7",
        "inputs": [
            {"name": "IN_INT64", "shape": [1], "datatype": "INT64", "data": [1]},
            {"name": "IN_BOOL", "shape": [2], "datatype": "BOOL", "data": [True, False]},
        ],
        "outputs": [{"name": "OUT_BOOL", "parameters": {"binary_data": True}}],
    },
    {
        "inputs": [
            {
                "name": "IN_FP16",
                "shape": [4],
                "datatype": "FP16",
                "parameters": {"binary_data_size": 8},
            }
        ],
        "outputs": [{"name": "OUT_FP16"}],
        "parameters": {"binary_data_output": True},
    },
]


@st.composite
def mutated(draw: st.DrawFn, trees: st.SearchStrategy[Any]) -> Any:
    """A tree in which a few nodes are gone or something else."""
    tree = json.loads(json.dumps(draw(trees)))
    for _ in range(draw(st.integers(0, 3))):
        at, key = tree, None
        for _ in range(draw(st.integers(0, 5))):
            inside = at[key] if key is not None else at
            if not isinstance(inside, (dict, list)) or not inside:
                break
            at = inside
            keys = list(at) if isinstance(at, dict) else list(range(len(at)))
            key = draw(st.sampled_from(keys))
        if key is None:
            tree = draw(TREES) if draw(st.integers(0, 5)) == 0 else tree
        elif draw(st.booleans()):
            at[key] = draw(TREES)
        else:
            del at[key]
        if not isinstance(tree, (dict, list)):
            break
    return tree


def _written(tree: Any) -> bytes:
    try:
        return json.dumps(tree).encode()
    except ValueError:  # a lone surrogate
        return b"{}"


QUESTIONS = mutated(st.sampled_from(_RIGHT) | _QUESTIONS).map(_written)
_GARBAGE = st.binary(max_size=200) | st.sampled_from([b"[" * 3000, b'{"a":' * 200, b"\xff\xfe{}"])
_MODELS = st.sampled_from([*MODELS, "none", "..", "%2e%2e", "a b", "é"])
_INFER = st.builds(
    "/v2/models/{}{}/{}".format,
    _MODELS,
    st.sampled_from(["", "", "", "/versions/1", "/versions/2", "/versions/x", "/versions/-1"]),
    st.sampled_from(["infer", "infer", "infer", "generate", "generate_stream"]),
)
_OTHERS = st.sampled_from(
    [
        "/v2/repository/index",
        "/v2/repository/models/none/load",
        "/v2/repository/models/count/load",
        "/v2/repository/models/count/unload",
        "/v2/repository/models/%2e%2e/load",
        "/v2/repository/x/index",
        "/v2/systemsharedmemory/region/r/register",
        "/v2/systemsharedmemory/unregister",
        "/v2/cudasharedmemory/region/r/register",
        "/v2/cudasharedmemory/region/r/unregister",
        "/v2/trace/setting",
        "/v2/models/batch/trace/setting",
        "/v2/logging",
        "/v2/models/stats",
        "/v2",
        "/",
    ]
)
_LOADED = st.fixed_dictionaries(
    {
        "parameters": st.dictionaries(
            st.sampled_from(["config", "file:1/model.py", "file:../x", "unload_dependents"]),
            st.sampled_from(["{}", '{"backend": "python"}', "eA==", "x", True, 1]),
        )
    }
)
_REGISTERED = st.fixed_dictionaries(
    {"key": st.sampled_from(["/x", "x", "../etc/passwd", "", 1])},
    optional={
        "byte_size": st.integers(-1, 2**64),
        "offset": st.integers(-1, 2**64),
        "device_id": st.integers(-1, 9),
        "raw_handle": st.fixed_dictionaries({"b64": st.text(max_size=90)}),
    },
)
_SET = st.dictionaries(
    st.sampled_from(
        ["trace_level", "trace_rate", "trace_count", "log_frequency", "trace_mode", "log_info",
         "log_verbose_level", "log_format", "ready"]
    ),
    TREES,
)  # fmt: skip
ADMIN = mutated(_LOADED | _REGISTERED | _SET).map(_written)


@st.composite
def _body(draw: st.DrawFn, documents: st.SearchStrategy[bytes]) -> tuple[bytes, dict[str, str]]:
    """A body, and the headers that tell, or mistell, what it is."""
    body = draw(documents | _GARBAGE) if draw(st.integers(0, 4)) == 0 else draw(documents)
    headers = {}
    if draw(st.integers(0, 2)) == 0:
        lengths = [str(len(body))] * 4 + ["0", "-1", "x", "", str(len(body) + 9), "9" * 30]
        headers["Inference-Header-Content-Length"] = draw(st.sampled_from(lengths))
        body += draw(st.binary(max_size=40))
    encoding = draw(st.sampled_from([""] * 6 + ["gzip", "deflate", "identity", "br", "gzip, gzip"]))
    if encoding:
        headers["Content-Encoding"] = encoding
        packed = {"gzip": gzip.compress, "deflate": zlib.compress}.get(encoding, bytes)(body)
        body = draw(st.sampled_from([packed, packed, packed[:-3], body, packed + b"x"]))
    return body, headers


_HEADERS = st.dictionaries(
    st.sampled_from(
        ["Accept-Encoding", "Accept", "Content-Type", "Expect", "Origin", "X-A", "Authorization",
         "traceparent", "Host", "Connection", "triton-x"]
    ),
    st.sampled_from(
        ["gzip", "gzip;q=0, *", "deflate;q=x", "text/event-stream", "100-continue", "null", "",
         "http://evil.example", "close", "a" * 300, "00-0-0-0", "evil.example", "\x7f", "é"]
    ),
    max_size=3,
)  # fmt: skip


@st.composite
def requests(draw: st.DrawFn, paths: Any, documents: st.SearchStrategy[bytes]) -> Case:
    """A whole request, with its length, or in chunks."""
    method = draw(st.sampled_from(["POST"] * 9 + ["GET", "PUT", "DELETE", "HEAD", "OPTIONS"]))
    body, headers = draw(_body(documents))
    headers = {"Host": "localhost", "Connection": "close"} | draw(_HEADERS) | headers
    complete = True
    if draw(st.integers(0, 3)):
        told = draw(st.sampled_from([len(body)] * 12 + [len(body) + 5, max(0, len(body) - 2), -1]))
        complete = 0 <= told <= len(body)
        headers["Content-Length"] = str(told)
    else:
        headers["Transfer-Encoding"] = "chunked"
        size = draw(st.sampled_from([1, 7, 4096]))
        parts = [body[at : at + size] for at in range(0, len(body), size)]
        chunks = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts)
        end = draw(st.sampled_from([b"0\r\n\r\n"] * 6 + [b"0\r\nA: b\r\n\r\n", b"", b"zz\r\n"]))
        complete = end.startswith(b"0")
        body = chunks + end
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    head = f"{method} {draw(paths)} HTTP/1.1\r\n{lines}\r\n".encode()
    return Case(head + body, complete)


INFERENCES = requests(_INFER, QUESTIONS)
ADMINISTRATION = requests(_OTHERS, ADMIN)


@st.composite
def wrecks(draw: st.DrawFn) -> Case:
    """A request with some bytes changed, cut out or put in, anywhere."""
    data = bytearray(draw(INFERENCES | ADMINISTRATION).data)
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, max(0, min(len(data), 300))))
        data[at : at + draw(st.integers(0, 3))] = draw(st.binary(max_size=3))
    return Case(bytes(data), False)


WRECKS = wrecks() | st.binary(max_size=300).map(lambda data: Case(data, False))
