"""Texts of models that are half a surrogate pair, which neither JSON nor a protobuf can hold."""

from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.http
from tritonclient.utils import InferenceServerException

from .conftest import Serve, add_model, identity

SAYS = """
    class TritonPythonModel:
        def execute(self, requests):
            what = requests[0].inputs()[0].as_numpy()[0]
            if what == 1:
                raise ValueError("\\ud800 lone")
            if what == 2:
                error = pb_utils.TritonError("\\ud800 lone")
                return [pb_utils.InferenceResponse(error=error)]
            parameters = {"a": 2**70} if what == 3 else {"a": "\\ud800 lone"}
            return [pb_utils.InferenceResponse([], parameters=parameters)]
"""


@pytest.mark.parametrize("place", ["process", "thread"])
def test_they_are_written_so_that_they_can_be(serve: Serve, tmp_path: Path, place: str) -> None:
    where = f'parameters {{ key: "PLACEMENT" value {{ string_value: "{place}" }} }}'
    add_model(tmp_path, "says", identity("INT32") + where, SAYS)
    serving = serve(f"--model-repository={tmp_path}")
    for door, url in ((tritonclient.http, serving.http), (tritonclient.grpc, serving.grpc)):
        with door.InferenceServerClient(url) as client:
            for what in (1, 2, 3, 4):
                tensor = door.InferInput("INPUT0", [1], "INT32")
                tensor.set_data_from_numpy(np.array([what], np.int32))
                with pytest.raises(InferenceServerException) as caught:
                    client.infer("says", [tensor])
                said = "parameter 'a' is 1180591620717411303424" if what == 3 else "\\ud800 lone"
                assert said in caught.value.message()
    assert "Traceback" not in serving.log
