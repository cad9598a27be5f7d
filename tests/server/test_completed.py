"""Configs that `auto_complete_config` fills in with what no config can hold."""

from pathlib import Path

import pytest

from nerite import Server

from .conftest import add_model, identity

COMPLETES = """
    class TritonPythonModel:
        @staticmethod
        def auto_complete_config(config):
            WHAT
            return config

        def execute(self, requests):
            pass
"""


@pytest.mark.parametrize("placement", ["process", "thread"])
@pytest.mark.parametrize(
    ("what", "said"),
    [
        (
            'config.add_input({"name": "A", "data_type": "TYPE_FP32", "dims": ["a"]})',
            "Internal: ValueError: input 'A' in auto-complete-config function for model 'm': dims "
            "must be a list of integers, as [-1, 4], and not ['a']\n\nAt:\n",
        ),
        (
            'config.as_dict()["version_policy"] = {"latest": {"num_versions": object}}',
            "Internal: auto_complete_config in m/1/model.py has completed the config with what is "
            "no JSON: Object of type type is not JSON serializable",
        ),
    ],
)
async def test_what_no_config_can_hold(
    tmp_path: Path, what: str, said: str, placement: str
) -> None:
    place = f'parameters {{ key: "PLACEMENT" value {{ string_value: "{placement}" }} }}'
    add_model(tmp_path, "m", identity("FP32") + place, COMPLETES.replace("WHAT", what))
    async with Server(tmp_path) as server:
        (state,) = server.states()
    assert state.reason.startswith(said)
