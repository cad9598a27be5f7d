"""Ensembles: a request runs through a graph of steps, each of which asks another model.

A step is asked as soon as all of its inputs are there, so branches run side by side. A decoupled
step's every answer runs on by itself. Tensors go from step to step as the arrays that came.
"""

from __future__ import annotations

import logging
import time
import weakref
from collections.abc import Mapping
from typing import NamedTuple

from nerite.core.call import Answer, Call
from nerite.core.errors import InferenceError, Status, invalid
from nerite.core.request import Parameter, Request, Response
from nerite.core.tensor import Tensor, fits
from nerite.schedulers.plan import Gate, Node, Plan, Step

log = logging.getLogger(__name__)

# Of a tensor that a step wrote: id, start and end of the sequence that the next steps belong to.
Sequence = tuple[int | str, bool, bool]


class Graph(NamedTuple):
    """An ensemble. inputs, outputs: its tensors, the outputs with their dims without the batch
    dimension. batches: whether it has one. max_inflight: requests that are open at one step at
    most, of all requests together; 0 for any number."""

    name: str
    steps: tuple[Step, ...]
    inputs: tuple[str, ...]
    outputs: Mapping[str, tuple[int, ...]]
    batches: bool
    decoupled: bool
    max_inflight: int = 0


class EnsembleScheduler:
    """Belongs to the server's loop."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self._gates = [Gate(graph.max_inflight) for _ in graph.steps]
        self._plans: dict[tuple[str, ...], Plan] = {}
        self._closed = False
        if graph.max_inflight:
            log.info(
                "Ensemble model '%s' configured with max_inflight_requests: %d",
                *(graph.name, graph.max_inflight),
            )

    def submit(self, call: Call) -> None:
        request = call.request
        if self._closed:
            text = "Server is stopping, scheduler for model has stopped accepting new inference "
            call.fail(InferenceError(Status.UNAVAILABLE, f"{request.label}{text}requests"))
            return
        plan = self._plans.get(request.outputs)
        if plan is None:
            outputs = request.outputs or tuple(self.graph.outputs)
            plan = self._plans[request.outputs] = Plan(self.graph.steps, self._gates, outputs)
        _Run(self.graph, plan, call).start()

    def dispatch(self) -> None:
        """Nothing waits for an instance here."""

    def pending(self) -> int:
        return sum(map(len, self._gates))

    def close(self) -> None:
        self._closed = True


class _Held:
    """A tensor between steps. tensor: None where its step left it out, or the client an optional
    input. left: how many have still to take it. batch: the items of the request it is the answer
    to, 0 where its model does not batch."""

    __slots__ = ("batch", "left", "sequence", "tensor")

    def __init__(
        self, tensor: Tensor | None, left: int, batch: int, sequence: Sequence | None
    ) -> None:
        self.tensor = tensor
        self.left = left
        self.batch = batch
        self.sequence = sequence


class _Run:
    """One request on its way.

    Its tensors are kept by turn: what belongs to the n-th answer of a decoupled step is of turn n,
    and what no such step had a hand in is of turn 0.
    """

    __slots__ = (
        "_asks",
        "_busy_ns",
        "_call",
        "_graph",
        "_held",
        "_holding",
        "_plan",
        "_sent",
        "_turns",
        "_turns_of",
        "_waiting",
    )

    def __init__(self, graph: Graph, plan: Plan, call: Call) -> None:
        self._graph = graph
        self._plan = plan
        self._call = call
        self._asks: set[_Ask] = set()
        self._turns: dict[int, dict[str, _Held]] = {}
        self._turns_of: dict[Node, int] = {}
        self._busy_ns = 0
        self._sent = False
        self._waiting = 0  # asks at closed gates
        self._held = self._holding = False

    @property
    def ended(self) -> bool:
        return self._call.ended

    def start(self) -> None:
        call = self._call
        request = call.request
        call.taken_ns = time.monotonic_ns()
        call.on_cancel(self._cancelled)
        if self._graph.decoupled:
            call.hold = self._hold
        batch = call.batch_size if self._graph.batches else 0
        uses = self._plan.uses
        self._turns[0] = {
            name: _Held(request.inputs.get(name), uses[name], batch, None)
            for name in self._graph.inputs
            if name in uses
        }
        self._go_on(self._plan.first, self._plan.passes, 0)

    def _go_on(self, nodes: tuple[Node, ...], emits: bool, turn: int) -> None:
        """New tensors are there: ask whom they complete the inputs of, and answer."""
        asks = []
        held = self._turns.get(turn, {})
        for node in nodes:
            if all(name in held for name in node.reads):
                asks.append(self._prepare(node, held, turn))
        self._asks.update(asks)
        if emits and all(name in held for name in self._plan.outputs):
            self._emit(held)
        if not held:
            self._turns.pop(turn, None)
        self._waiting += len(asks)
        for ask in asks:
            ask.node.gate.enter(ask.start)
        if self._waiting and not self._holding:
            self._pace()
        if not self._asks and not self.ended:
            self._finish()

    def _prepare(self, node: Node, held: dict[str, _Held], turn: int) -> _Ask:
        step = node.step
        request = self._call.request
        inputs = {}
        sequence: Sequence | None = None
        batch = 0
        for name, source, dims in node.inputs:
            one = held[source]
            if one.tensor is not None:
                tensor = inputs[name] = _shaped(one.tensor, dims, step.batches, one.batch)
                if step.batches and tensor.ndim:
                    batch = tensor.shape[0]
            if sequence is None:
                sequence = one.sequence
        for source in node.reads:
            _take(held, source)
        if sequence is None:
            sequence = (request.sequence_id, request.sequence_start, request.sequence_end)
        asked = Request(
            step.model,
            inputs,
            step.version,
            request.id,
            node.names,
            request.parameters,
            request.priority,
            request.timeout_us,
            *sequence,
        )
        trace = request.trace
        if trace is not None and not isinstance(trace, str):
            asked = trace.part(asked)
        return _Ask(self, node, asked, turn, batch, sequence)

    def answered(self, ask: _Ask, answer: Response) -> None:
        """A step has answered; a last answer may be nothing but the end of many."""
        if answer.final:
            self._asks.discard(ask)
        if self.ended:
            return
        node = ask.node
        nodes: tuple[Node, ...] = ()
        turn, emits = 0, False
        if answer.outputs or not answer.final or not (node.step.decoupled or ask.answered):
            ask.answered = True
            try:
                sequence = _sequence(answer.parameters, ask.sequence)
            except InferenceError as error:
                self.fail(error)
                return
            turn = self._turn(ask)
            held = self._turns.setdefault(turn, {})
            for name, target, uses in node.outputs:
                held[target] = _Held(answer.outputs.get(name), uses, ask.batch, sequence)
            nodes, emits = node.after, node.emits
        self._go_on(nodes, emits, turn)

    def _turn(self, ask: _Ask) -> int:
        if not ask.node.step.decoupled:
            return ask.turn
        turn = self._turns_of.get(ask.node, 0)
        self._turns_of[ask.node] = turn + 1
        return turn

    def started(self) -> None:
        """One less waits at a gate."""
        self._waiting -= 1
        if self._holding and not self._waiting:
            self._pace()

    def _hold(self, held: bool) -> None:
        self._held = held
        self._pace()

    def _pace(self) -> None:
        """Decoupled steps wait with their answers while those they gave wait at a gate."""
        holding = self._held or self._waiting > 0
        if holding != self._holding:
            self._holding = holding
            for ask in self._asks:
                ask.hold(holding)

    def spent(self, call: Call) -> None:
        """Add what a step's model has spent on computing; the rest of the time is waiting."""
        if call.taken_ns:
            self._call.input_ns += call.input_ns
            self._call.infer_ns += call.infer_ns
            self._busy_ns += max(call.ended_ns - call.taken_ns, 0)

    def _emit(self, held: dict[str, _Held]) -> None:
        outputs = {}
        sequence: Sequence | None = None
        for name in self._plan.outputs:
            one = held[name]
            _take(held, name)
            sequence = sequence or one.sequence
            if one.tensor is None:
                log.debug("Composing models did not output tensor %s", name)
                continue
            dims = self._graph.outputs[name]
            outputs[name] = _shaped(one.tensor, dims, self._graph.batches, one.batch)
        names = ("sequence_id", "sequence_start", "sequence_end")
        parameters = dict(zip(names, sequence, strict=True)) if sequence else {}
        self._send(Response(outputs, parameters, final=not self._asks))

    def _finish(self) -> None:
        """No step is left to be asked."""
        if self._sent or self._graph.decoupled:
            self._send(Response())
            return
        self.fail(
            invalid(
                f"{self._call.request.label}unexpected deadlock, at least one output is not set "
                "while no more ensemble steps can be made"
            )
        )

    def _send(self, response: Response) -> None:
        self._sent = True
        call = self._call
        if response.final:
            call.taken_ns = max(call.received_ns, time.monotonic_ns() - self._busy_ns)
            call.execution_size = call.batch_size
        call.send(response)

    def fail(self, error: InferenceError) -> None:
        """End in a step's error, and with it what the other steps do."""
        if self.ended:
            return
        call = self._call
        call.taken_ns = call.input_ns = call.infer_ns = 0
        text = f"in ensemble '{self._graph.name}', {error.message}"
        call.fail(InferenceError(error.status, text))
        asks, self._asks = self._asks, set()
        self._turns.clear()
        for ask in asks:
            ask.cancel()

    def _cancelled(self) -> None:
        text = f"{self._call.request.label}cancelled"
        self.fail(InferenceError(Status.CANCELLED, text))


class _Ask:
    """One request to one step's model."""

    __slots__ = ("_asked", "_run", "answered", "batch", "node", "request", "sequence", "turn")

    def __init__(
        self, run: _Run, node: Node, request: Request, turn: int, batch: int, sequence: Sequence
    ) -> None:
        self._run = run
        # Weak, so that a Call which its model drops can notice and fail itself.
        self._asked: weakref.ref[Call] | None = None
        self.node = node
        self.request = request
        self.turn = turn
        self.batch = batch
        self.sequence = sequence
        self.answered = False

    def start(self) -> None:
        """The gate is open."""
        self._run.started()
        if self._run.ended:
            self.node.gate.leave()
            return
        try:
            self._asked = weakref.ref(self.node.step.submit(self.request, self._deliver))
        except InferenceError as error:
            self._run.fail(error)
            self.node.gate.leave()

    def _deliver(self, call: Call, answer: Answer) -> None:
        if isinstance(answer, InferenceError):
            self._run.fail(answer)
            self.node.gate.leave()
            return
        if answer.error is not None:
            self._run.fail(answer.error)
            return
        if answer.final:
            self._run.spent(call)
        self._run.answered(self, answer)
        if answer.final:
            self.node.gate.leave()

    def hold(self, held: bool) -> None:
        call = self._asked() if self._asked is not None else None
        if self.node.step.holds and call is not None and call.hold is not None:
            call.hold(held)

    def cancel(self) -> None:
        call = self._asked() if self._asked is not None else None
        if call is not None:
            call.cancel()


def _take(held: dict[str, _Held], name: str) -> None:
    one = held[name]
    one.left -= 1
    if not one.left:
        del held[name]


def _shaped(tensor: Tensor, dims: tuple[int, ...], batches: bool, batch: int) -> Tensor:
    """A tensor of a model that batches for one that does not, or the other way round.

    batch: the items it came with, 0 where it came without batch dimension.
    """
    if batches == (batch != 0):
        return tensor
    if batches:
        return tensor.reshape((1, *tensor.shape)) if fits(tensor.shape, dims) else tensor
    if batch == 1 and not fits(tensor.shape, dims):
        return tensor.reshape(tensor.shape[1:])
    return tensor


def _sequence(parameters: Mapping[str, Parameter], asked: Sequence) -> Sequence:
    """What a response says of the sequence that the next steps belong to, else as was asked."""
    flags = [parameters.get(name) for name in ("sequence_start", "sequence_end")]
    id = parameters.get("sequence_id")
    if id is None and flags == [None, None]:
        return asked
    for name, flag in zip(("sequence_start", "sequence_end"), flags, strict=True):
        if not isinstance(flag, (bool, type(None))):
            raise invalid(f"expect parameter '{name}' to be TRITONSERVER_PARAMETER_BOOL")
    if isinstance(id, bool) or not isinstance(id, (int, str, type(None))):
        raise invalid(
            "expected parameter 'sequence_id' to be TRITONSERVER_PARAMETER_INT or "
            "TRITONSERVER_PARAMETER_STRING"
        )
    return (asked[0] if id is None else id, bool(flags[0]), bool(flags[1]))
