"""How many words of pictures that the models have not seen are read: `python evaluate.py`."""

import argparse
from pathlib import Path

import numpy as np
import onnxruntime
import reading
from training import render

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--pictures", type=int, default=40)
parser.add_argument("--seed", type=int, default=20_000_000)  # training counts up from 0
arguments = parser.parse_args()

MODELS = Path(__file__).parent / "models"
detection, recognition = (
    onnxruntime.InferenceSession(str(MODELS / name / "1" / "model.onnx"))
    for name in ("text_detection", "text_recognition")
)
rng = np.random.default_rng(arguments.seed)
total = found = right = 0
for _ in range(arguments.pictures):
    picture, placed = render.scene(rng, reading.WIDTH, reading.HEIGHT, 8)
    seen = reading.for_detection(picture)
    boxes = reading.boxes(*detection.run(None, {"input_images:0": seen}))
    words = reading.words(recognition.run(None, {"input.1": reading.crops(seen, boxes)})[0])
    for text, (left, top, right_side, bottom) in placed:
        x, y = (left + right_side) / 2, (top + bottom) / 2
        there = [
            word
            for word, box in zip(words, boxes, strict=True)
            if box[0] < x < box[2] and box[1] < y < box[3]
        ]
        total, found, right = total + 1, found + bool(there), right + (text in there)
print(f"{total} words: {found} found, {right} right, {right / total:.3f}")
