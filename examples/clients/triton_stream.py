"""Progress and previews on a gRPC stream of Triton's. `pip install tritonclient[grpc] pillow`

python triton_stream.py [127.0.0.1:8001 [MODEL]]
"""

import queue
import sys

import numpy as np
import tritonclient.grpc as triton
from PIL import Image


def paint(url, model, prompt, steps=None):
    """Yields what the server says by the names of its outputs, as numpy arrays; the picture last.

    Leaving early closes the stream, and the server stops painting.
    """
    inputs = [triton.InferInput("prompt", [1], "BYTES")]
    inputs[0].set_data_from_numpy(np.array([prompt.encode()], object))
    if steps is not None:
        inputs.append(triton.InferInput("steps", [1], "INT32"))
        inputs[-1].set_data_from_numpy(np.array([steps], np.int32))
    answers = queue.SimpleQueue()
    with triton.InferenceServerClient(url) as client:
        client.start_stream(lambda result, error: answers.put(error or result))
        try:
            wish = {"progress": True, "previews": 2}  # a preview at each second step
            client.async_stream_infer(model, inputs, parameters=wish)
            told = {}
            while "generated_image" not in told:
                answer = answers.get()
                if isinstance(answer, Exception):
                    raise answer
                names = [output.name for output in answer.get_response().outputs]
                told = {name: answer.as_numpy(name) for name in names}
                yield told
        finally:
            client.stop_stream(cancel_requests=True)


if __name__ == "__main__":
    url = sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:8001"
    model = sys.argv[2] if len(sys.argv) > 2 else "painter"
    for told in paint(url, model, "a blue sailboat at sunset", steps=8):
        if "generated_image" in told:
            Image.fromarray(told["generated_image"]).save("sailboat.png")
            print("sailboat.png, seed", told["seed"][0])
        elif told["queue_position"][0] > 0:
            print("waiting,", told["queue_position"][0], "before this one")
        else:
            preview = told["preview"].shape if "preview" in told else ""
            print("step", told["step"][0], "of", told["steps"][0], preview)
