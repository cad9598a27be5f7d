"""`import tritonserver`: a script for Triton's in-process Python API, without Triton."""

import sys

import numpy

import tritonserver

server = tritonserver.Server(
    model_repository=sys.argv[1] if len(sys.argv) > 1 else "examples/models",
    model_control_mode=tritonserver.ModelControlMode.EXPLICIT,
)
server.start(wait_until_ready=True)
model = server.load("add_sub")
print(model, model.metadata()["versions"])

ones = numpy.ones((1, 4), numpy.float32)
for response in model.infer(inputs={"INPUT0": ones, "INPUT1": ones}):
    print(numpy.from_dlpack(response.outputs["OUTPUT0"]))

server.unload(model, wait_until_unloaded=True)
print(server.models())
server.stop()
