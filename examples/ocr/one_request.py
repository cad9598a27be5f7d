"""The same with one request: `python one_request.py ocr|ocr_pipeline [PICTURE]`."""

import argparse
from pathlib import Path

import numpy as np
import tritonclient.http as httpclient

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("model", choices=["ocr", "ocr_pipeline"])
parser.add_argument("picture", nargs="?", default=Path(__file__).with_name("sign.jpg"))
parser.add_argument("--url", default="localhost:8000")
arguments = parser.parse_args()

data = np.fromfile(arguments.picture, np.uint8)
tensor = httpclient.InferInput("PICTURE", data.shape, "UINT8")
tensor.set_data_from_numpy(data)
client = httpclient.InferenceServerClient(url=arguments.url)
answer = client.infer(arguments.model, [tensor])
print(" ".join(word.decode() for word in answer.as_numpy("WORDS")))
