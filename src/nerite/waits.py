"""Who waits for whom: requests of models to models (BLS) that would wait for ever are refused."""

from __future__ import annotations

from collections.abc import Sequence

from nerite.core.call import Call
from nerite.core.request import Request
from nerite.instances.base import Instance
from nerite.model import Model


def endless(call: Call, models: Sequence[Model]) -> bool:
    """Whether `call`, which a model has asked, waits for an instance that itself waits for it.

    An instance is stuck when an execution of it waits for a call that is; a call is stuck when the
    instance that holds it is, or when it is queued for a model whose instances all are, or when a
    step of the ensemble that it asks is.
    """
    stuck = [one for model in models for one in model.instances if one.waiting]
    while stuck:
        look = _Look(models, stuck)
        still = [one for one in stuck if any(look.waits(asked) for asked in one.waiting)]
        if len(still) == len(stuck):
            return look.waits(call)
        stuck = still
    return False


class _Look:
    """At all calls, with some instances that are taken for stuck."""

    def __init__(self, models: Sequence[Model], stuck: Sequence[Instance]) -> None:
        self._models = models
        self._stuck = stuck

    def waits(self, call: Call) -> bool:
        if call.ended:
            return False
        for model in self._models:
            for one in model.instances:
                if one.holds(call):
                    return one in self._stuck
        asked = self._find(call.request)
        steps = asked.asked_by(call) if asked is not None else ()
        return any(
            self._queued(request) if step is None else self.waits(step) for request, step in steps
        ) or self._queued(call.request)

    def _queued(self, request: Request) -> bool:
        model = self._find(request)
        instances = model.instances if model is not None else ()
        return bool(instances) and all(one in self._stuck for one in instances)

    def _find(self, request: Request) -> Model | None:
        named = [one for one in self._models if one.name == request.model]
        if request.version:
            named = [one for one in named if one.version == int(request.version)]
        return max(named, key=lambda one: one.version, default=None)
