"""Reads the words in a picture through two models: `python client.py [PICTURE]`.

The server finds and recognises; this client prepares, cuts and spells.
"""

import argparse
from pathlib import Path

import reading
import tritonclient.http as httpclient
from PIL import Image

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("picture", nargs="?", default=Path(__file__).with_name("sign.jpg"))
parser.add_argument("--url", default="localhost:8000")
arguments = parser.parse_args()
client = httpclient.InferenceServerClient(url=arguments.url)


def ask(model, name, array):
    tensor = httpclient.InferInput(name, array.shape, "FP32")
    tensor.set_data_from_numpy(array)
    return client.infer(model, [tensor])


seen = reading.for_detection(Image.open(arguments.picture))
found = ask("text_detection", "input_images:0", seen)
boxes = reading.boxes(
    found.as_numpy("feature_fusion/Conv_7/Sigmoid:0"), found.as_numpy("feature_fusion/concat_3:0")
)
if boxes:
    letters = ask("text_recognition", "input.1", reading.crops(seen, boxes)).as_numpy("308")
    print(" ".join(reading.words(letters)))
