"""What a diffusion model's config says of its queue."""

import pytest

from nerite.backends.diffusion_config import max_waiting


@pytest.mark.parametrize(
    ("config", "waits"),
    [
        ({}, True),
        ({"dynamic_batching": {}}, True),
        ({"dynamic_batching": {"priority_levels": 2}}, False),
        ({"instance_group": [{"kind": "KIND_GPU", "count": 1, "gpus": [0]}]}, True),
        ({"instance_group": [{"kind": "KIND_GPU", "count": 1, "gpus": [0, 1]}]}, False),
        ({"instance_group": [{"kind": "KIND_CPU", "count": 2}]}, False),
        ({"instance_group": [{"kind": "KIND_CPU"}, {"kind": "KIND_GPU", "gpus": [0]}]}, False),
    ],
)
def test_requests_wait_in_the_engine_where_it_is_the_only_one(config, waits):
    assert (max_waiting(config) > 0) == waits
