"""Declared: the types of outputs that a model's config promises; its answers are held to them."""

from __future__ import annotations

from collections.abc import Iterable

from nerite.backends.base import Config, ModelSpec
from nerite.backends.together import output_types
from nerite.core.call import Answer
from nerite.core.errors import InferenceError, Status
from nerite.core.request import Response
from nerite.core.tensor import datatype_of


class Declared:
    """Of one loaded model. Shapes are not looked at: as in Triton, what was computed is told."""

    def __init__(self, spec: ModelSpec, config: Config) -> None:
        self._types = output_types(config)
        self._code = spec.code
        self._config = f"{spec.name}/config.pbtxt"

    def check(self, outputs: Iterable[tuple[str, str]]) -> InferenceError | None:
        """What is wrong with outputs, each given as its name and datatype; None where nothing is.

        A name that the config has not is nothing wrong: states, and what nobody has asked for.
        """
        for name, datatype in outputs:
            declared = self._types.get(name, datatype)
            if declared != datatype:
                text = f"output '{name}' is {_written(datatype)}, where {self._config} declares "
                remedy = f"Convert it in {self._code}, or declare {_written(datatype)}"
                return InferenceError(Status.INTERNAL, f"{text}{_written(declared)}. {remedy}")
        return None

    def hold(self, answer: Answer) -> Answer:
        """An answer that is made of arrays, or in its place what is wrong with it."""
        if not isinstance(answer, Response):
            return answer
        wrong = self.check((name, datatype_of(one)) for name, one in answer.outputs.items())
        if wrong is None:
            return answer
        return wrong if answer.final else Response(final=False, error=wrong)


def _written(datatype: str) -> str:
    return f"TYPE_{'STRING' if datatype == 'BYTES' else datatype}"
