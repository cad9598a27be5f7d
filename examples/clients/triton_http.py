"""A picture through Triton's HTTP client. `pip install tritonclient[http] pillow`

python triton_http.py [127.0.0.1:8000 [MODEL]]
"""

import sys

import numpy as np
import tritonclient.http as triton
from PIL import Image

url = sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:8000"
model = sys.argv[2] if len(sys.argv) > 2 else "painter"


def tensor(name, datatype, array):
    made = triton.InferInput(name, [1], datatype)
    made.set_data_from_numpy(array)
    return made


inputs = [
    tensor("prompt", "BYTES", np.array([b"a white lighthouse by the sea"], object)),
    tensor("steps", "INT32", np.array([8], np.int32)),
    tensor("seed", "INT64", np.array([7], np.int64)),
]
with triton.InferenceServerClient(url) as client:
    answer = client.infer(model, inputs)
pixels = answer.as_numpy("generated_image")
Image.fromarray(pixels).save("lighthouse.png")
print("lighthouse.png", pixels.shape, "seed", answer.as_numpy("seed")[0])
