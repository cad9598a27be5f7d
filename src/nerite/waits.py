"""Who waits for whom: requests of models to models (BLS) that would wait for ever are refused."""

from __future__ import annotations

from collections.abc import Sequence

from nerite.core.call import Call
from nerite.instances.base import Instance
from nerite.model import Model


def endless(call: Call, models: Sequence[Model]) -> bool:
    """Whether `call`, which a model has asked, waits for an instance that itself waits for it.

    An instance is stuck when an execution of it waits for a call that is; a call is stuck when the
    instance that holds it is, or when it is queued for a model whose instances all are.
    """
    pools = {(model.name, model.version): model.instances for model in models}
    stuck = [one for instances in pools.values() for one in instances if one.waiting]
    while True:
        still = [one for one in stuck if any(_waits(asked, stuck, pools) for asked in one.waiting)]
        if len(still) == len(stuck):
            return bool(stuck) and _waits(call, stuck, pools)
        stuck = still


def _waits(
    call: Call, stuck: Sequence[Instance], pools: dict[tuple[str, int], Sequence[Instance]]
) -> bool:
    if call.ended:
        return False
    for instances in pools.values():
        for one in instances:
            if one.holds(call):
                return one in stuck
    request = call.request
    versions = [version for name, version in pools if name == request.model]
    if not versions:
        return False
    version = int(request.version) if request.version else max(versions)
    instances = pools.get((request.model, version), ())
    return bool(instances) and all(one in stuck for one in instances)
