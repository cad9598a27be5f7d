"""Processes that a model forks: they cannot ask the server, are told so, and hang nobody."""

from pathlib import Path

import numpy as np
import tritonclient.grpc

from .conftest import ADD_SUB, ADD_SUB_CODE, Serve, add_model, identity

FORKS = """
    import multiprocessing

    def ask(way):
        tensors = [pb_utils.Tensor(name, np.zeros(4, np.float32)) for name in ("INPUT0", "INPUT1")]
        asked = pb_utils.InferenceRequest(
            model_name="add_sub", requested_output_names=["OUTPUT0"], inputs=tensors
        )
        pb_utils.Logger.log_info("from a fork")
        try:
            if way == "ready":
                return str(pb_utils.is_model_ready("add_sub"))
            answer = asked.exec()
            return answer.error().message() if answer.has_error() else "answered"
        except Exception as error:
            return str(error)

    class TritonPythonModel:
        def execute(self, requests):
            with multiprocessing.get_context("fork").Pool(2) as pool:
                said = pool.map_async(ask, ["exec", "ready"]).get(20)
            said.append(ask("exec"))
            tensor = pb_utils.Tensor("OUTPUT0", np.array(said, object))
            return [pb_utils.InferenceResponse([tensor]) for _ in requests]
"""


def test_a_fork_is_told_that_it_cannot_ask(serve: Serve, tmp_path: Path) -> None:
    add_model(tmp_path, "add_sub", ADD_SUB, ADD_SUB_CODE)
    add_model(tmp_path, "forks", identity("STRING"), FORKS)
    serving = serve(f"--model-repository={tmp_path}")
    with tritonclient.grpc.InferenceServerClient(serving.grpc) as client:
        tensor = tritonclient.grpc.InferInput("INPUT0", [1], "BYTES")
        tensor.set_data_from_numpy(np.array(["x"], object))
        for _ in range(2):
            answer = client.infer("forks", [tensor], client_timeout=30)
            *forked, own = (one.decode() for one in answer.as_numpy("OUTPUT0"))
            assert own == "answered"
            for said in forked:
                assert "a process that the model has forked cannot ask the server" in said
