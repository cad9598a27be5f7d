"""A backend for all models that are columns of numbers: a request names a column and gets it.

The models hold no code. This file is found by `backend: "columns"` and --backend-directory.
"""

import csv
import json
from pathlib import Path

import numpy as np

import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    @staticmethod
    def auto_complete_config(config):
        config.set_max_batch_size(0)
        config.add_input({"name": "COLUMN", "data_type": "TYPE_STRING", "dims": [1]})
        config.add_output({"name": "VALUES", "data_type": "TYPE_FP32", "dims": [-1]})
        return config

    def initialize(self, args):
        config = json.loads(args["model_config"])
        file = config.get("default_model_filename") or "table.csv"
        folder = Path(args["model_repository"], args["model_version"])
        with open(folder / file, newline="", encoding="utf-8") as table:
            rows = list(csv.DictReader(table))
        self.columns = {name: np.array([row[name] for row in rows], np.float32) for name in rows[0]}

    def execute(self, requests):
        return [self.answer(request) for request in requests]

    def answer(self, request):
        name = pb_utils.get_input_tensor_by_name(request, "COLUMN").as_numpy()[0].decode()
        if name not in self.columns:
            known = ", ".join(self.columns)
            text = f"there is no column '{name}'; there are {known}"
            return pb_utils.InferenceResponse(
                error=pb_utils.TritonError(text, pb_utils.TritonError.INVALID_ARG)
            )
        return pb_utils.InferenceResponse([pb_utils.Tensor("VALUES", self.columns[name])])
