"""The model's config as a model.py reads it, and completes it in `auto_complete_config`."""

from __future__ import annotations

import json
import operator
from typing import Any, Dict, Mapping, Union

import numpy as np

_Config = Dict[str, Any]  # noqa: UP006  evaluated, and workers may run on 3.8


class ModelConfig:
    """The config that `auto_complete_config` fills in. What is set already must agree.

    All raise ValueError, with Triton's texts, for what contradicts the config.
    """

    def __init__(self, model_config: Union[str, Mapping[str, Any]]) -> None:  # noqa: UP007
        read = json.loads(model_config) if isinstance(model_config, str) else dict(model_config)
        self._model_config: _Config = read
        self._name = str(read.get("name", ""))
        self._where = f"in auto-complete-config function for model '{self._name}'"

    def as_dict(self) -> dict[str, Any]:
        return self._model_config

    def set_max_batch_size(self, max_batch_size: int) -> None:
        try:
            max_batch_size = operator.index(max_batch_size)
        except TypeError:
            text = f"must be an integer, and not {max_batch_size!r}"
            raise ValueError(f"max_batch_size {self._where} {text}") from None
        known = self._model_config.get("max_batch_size", 0)
        if known > max_batch_size:
            raise ValueError(
                f"configuration specified max_batch_size {known}, but in auto-complete-config "
                f"function for model '{self._name}' specified max_batch_size {max_batch_size}"
            )
        self._model_config["max_batch_size"] = max_batch_size

    def set_dynamic_batching(self) -> None:
        for other in ("sequence_batching", "ensemble_scheduling"):
            if other in self._model_config:
                raise ValueError(
                    f"Configuration specified scheduling_choice as '{other}', but "
                    f"auto-complete-config function for model '{self._name}' tries to set "
                    "scheduling_choice as 'dynamic_batching'"
                )
        self._model_config.setdefault("dynamic_batching", {})

    def set_model_transaction_policy(self, transaction_policy_dict: dict[str, Any]) -> None:
        if any(key != "decoupled" for key in transaction_policy_dict):
            raise ValueError(
                "model transaction property in auto-complete-config function for model "
                f"'{self._name}' contains property other than 'decoupled'."
            )
        policy = self._model_config.setdefault("model_transaction_policy", {})
        for wanted in transaction_policy_dict.values():
            if not isinstance(wanted, (bool, np.bool_)):
                text = f"must be a bool, and not {wanted!r}"
                raise ValueError(f"model transaction property 'decoupled' {self._where} {text}")
            if policy.get("decoupled", wanted) != wanted:
                raise ValueError(
                    "trying to change decoupled property in auto-complete-config for model "
                    f"'{self._name}', which is already set to '{policy['decoupled']}'."
                )
            policy["decoupled"] = bool(wanted)

    def add_input(self, input: dict[str, Any]) -> None:
        """name, data_type ("TYPE_FP32"), dims, and if it may be left out, optional."""
        self._add("input", input, ("name", "data_type", "dims", "optional"))

    def add_output(self, output: dict[str, Any]) -> None:
        """name, data_type ("TYPE_FP32"), dims."""
        self._add("output", output, ("name", "data_type", "dims"))

    def _add(self, kind: str, item: dict[str, Any], allowed: tuple[str, ...]) -> None:
        where = self._where
        if "name" not in item:
            raise ValueError(f"{kind} {where} is missing 'name' property.")
        if any(key not in allowed for key in item):
            last = f"{', '.join(repr(key) for key in allowed[:-1])} and '{allowed[-1]}'"
            text = f"{kind} '{item['name']}' {where} contains property other than {last}."
            raise ValueError(text)
        for key in ("data_type", "dims"):
            if key not in item:
                raise ValueError(f"{kind} '{item['name']}' {where} is missing '{key}' property.")
        item = {**item, "dims": self._dims(f"{kind} '{item['name']}'", item["dims"])}
        known = self._model_config.setdefault(kind, [])
        for entry in known:
            if entry["name"] == item["name"]:
                self._agree(kind, entry, item)
                entry.update(item)
                return
        known.append(item)

    def _dims(self, what: str, dims: Any) -> list[int]:
        try:
            return [operator.index(dim) for dim in dims]
        except TypeError:
            text = f"dims must be a list of integers, as [-1, 4], and not {dims!r}"
            raise ValueError(f"{what} {self._where}: {text}") from None

    def _agree(self, kind: str, entry: dict[str, Any], item: dict[str, Any]) -> None:
        datatype = entry.get("data_type", "TYPE_INVALID")
        if datatype not in ("TYPE_INVALID", item["data_type"]):
            raise ValueError(
                f"unable to load model '{self._name}', configuration expects datatype {datatype} "
                f"for {kind} '{item['name']}', model provides {item['data_type']}"
            )
        for key in ("dims", "optional"):
            # Dims may be any until they are set; false is what `optional` says by itself too.
            if key in item and entry.get(key) and entry[key] != item[key]:
                raise ValueError(
                    f"model '{self._name}', tensor '{item['name']}': the model expects {key} "
                    f"{item[key]} but the model configuration specifies {key} {entry[key]}"
                )


def using_decoupled_model_transaction_policy(model_config: dict[str, Any]) -> bool:
    """Whether the model gives any number of responses."""
    return bool(model_config.get("model_transaction_policy", {}).get("decoupled", False))


def get_input_config_by_name(model_config: dict[str, Any], name: str) -> dict[str, Any] | None:
    """An input's entry in the config; None when it has none of that name."""
    return _named(model_config.get("input", []), name)


def get_output_config_by_name(model_config: dict[str, Any], name: str) -> dict[str, Any] | None:
    """An output's entry in the config; None when it has none of that name."""
    return _named(model_config.get("output", []), name)


def _named(items: list[dict[str, Any]], name: str) -> dict[str, Any] | None:
    return next((item for item in items if item["name"] == name), None)
