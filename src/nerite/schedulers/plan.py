"""What of an ensemble's graph a request needs, worked out once for each choice of outputs."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from nerite.core.call import Call, Deliver
from nerite.core.request import Request
from nerite.schedulers.held import Renaming


class Step(NamedTuple):
    """One step of an ensemble, as its model words it.

    submit: asks the model. version: "" for the newest. inputs, outputs: of the model, each with
    the ensemble's tensor it is mapped to. dims: of the inputs, without the batch dimension.
    batches: whether the model has one. holds: whether its answers can wait for the next steps.
    """

    submit: Callable[[Request, Deliver], Call]
    model: str
    version: str
    inputs: Mapping[str, str]
    outputs: Mapping[str, str]
    dims: Mapping[str, tuple[int, ...]]
    batches: bool
    decoupled: bool
    holds: bool = False


class Gate:
    """Lets in so many at a time, the others in the order they came; 0 is no limit."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._inside = 0
        self._waiting: deque[Callable[[], None]] = deque()
        self._opening = False

    def __len__(self) -> int:
        return len(self._waiting)

    def enter(self, start: Callable[[], None]) -> None:
        """Call `start`, now or when there is room; `leave` follows it."""
        if not self._limit:
            start()
            return
        self._waiting.append(start)
        self._open()

    def leave(self) -> None:
        if self._limit:
            self._inside -= 1
            self._open()

    def _open(self) -> None:
        # Who starts may leave at once: the loop below goes on, no deeper.
        if self._opening:
            return
        self._opening = True
        while self._waiting and self._inside < self._limit:
            self._inside += 1
            self._waiting.popleft()()
        self._opening = False


class Node:
    """A step in a plan.

    renaming: of what it reads, to the names of its model.
    inputs: the model's name, the tensor, the dims. reads: the tensors, each once. outputs: the
    model's name, the tensor, how many take it. names: of those outputs. after: who reads them;
    emits: whether the answer holds one of them.
    """

    def __init__(self, step: Step, gate: Gate) -> None:
        self.step = step
        self.gate = gate
        self.inputs = [(name, tensor, step.dims[name]) for name, tensor in step.inputs.items()]
        self.renaming = Renaming(tuple(step.inputs))
        self.reads = tuple(dict.fromkeys(step.inputs.values()))
        self.outputs: list[tuple[str, str, int]] = []
        self.names: tuple[str, ...] = ()
        self.after: tuple[Node, ...] = ()
        self.emits = False


class Plan:
    """The steps that some outputs need.

    uses: how often each tensor is taken. first: who reads what the client sent. passes: whether
    the answer holds something that the client sent.
    """

    def __init__(
        self, steps: Sequence[Step], gates: Sequence[Gate], outputs: tuple[str, ...]
    ) -> None:
        self.outputs = outputs
        writers = {
            tensor: index for index, step in enumerate(steps) for tensor in step.outputs.values()
        }
        needed: set[int] = set()
        wanted = list(outputs)
        while wanted:
            index = writers.get(wanted.pop())
            if index is not None and index not in needed:
                needed.add(index)
                wanted += steps[index].inputs.values()
        nodes = [Node(steps[index], gates[index]) for index in sorted(needed)]
        self.uses = Counter(outputs)
        for node in nodes:
            self.uses.update(node.reads)
        for node in nodes:
            self._connect(node, nodes)
        self.first = tuple(node for node in nodes if not writers.keys() & node.reads)
        self.passes = any(name not in writers for name in outputs)

    def _connect(self, node: Node, nodes: Sequence[Node]) -> None:
        node.outputs = [
            (name, tensor, self.uses[tensor])
            for name, tensor in node.step.outputs.items()
            if self.uses[tensor]
        ]
        node.names = tuple(name for name, _, _ in node.outputs)
        written = {tensor for _, tensor, _ in node.outputs}
        node.after = tuple(one for one in nodes if written.intersection(one.reads))
        node.emits = not written.isdisjoint(self.outputs)
