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
from nerite.core.layout import shape_of
from nerite.core.request import Request, Response
from nerite.core.tensor import Tensor
from nerite.schedulers.held import Held, Sequence, sequence_of, shaped, take
from nerite.schedulers.plan import Gate, Node, Plan, Step

log = logging.getLogger(__name__)


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
        self._runs: dict[Call, _Run] = {}
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
        run = self._runs[call] = _Run(self.graph, plan, call, self._runs)
        run.start()

    def asked_by(self, call: Call) -> list[tuple[Request, Call | None]]:
        """What the steps of a call are asking, without a Call where that waits at a gate."""
        run = self._runs.get(call)
        return [(ask.request, ask.call) for ask in run.asks] if run is not None else []

    def dispatch(self) -> None:
        """Nothing waits for an instance here."""

    def pending(self) -> int:
        return sum(map(len, self._gates))

    def close(self) -> None:
        self._closed = True


class _Run:
    """One request on its way.

    Its tensors are kept by turn: what belongs to the n-th answer of a decoupled step is of turn n,
    and what no such step had a hand in is of turn 0.
    """

    __slots__ = (
        "_busy_ns",
        "_call",
        "_graph",
        "_held",
        "_holding",
        "_plan",
        "_runs",
        "_sent",
        "_turns",
        "_turns_of",
        "_waiting",
        "asks",
    )

    def __init__(self, graph: Graph, plan: Plan, call: Call, runs: dict[Call, _Run]) -> None:
        """runs: those on their way, which it leaves at its end."""
        self._runs = runs
        self._graph = graph
        self._plan = plan
        self._call = call
        self.asks: set[_Ask] = set()
        self._turns: dict[int, dict[str, Held]] = {}
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
            name: Held(request.inputs, name, uses[name], batch, None)
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
        self.asks.update(asks)
        if emits and all(name in held for name in self._plan.outputs):
            self._emit(held)
        if not held:
            self._turns.pop(turn, None)
        self._waiting += len(asks)
        for ask in asks:
            ask.node.gate.enter(ask.start)
        if self._waiting and not self._holding:
            self._pace()
        if not self.asks and not self.ended:
            self._finish()

    def _prepare(self, node: Node, held: dict[str, Held], turn: int) -> _Ask:
        step = node.step
        request = self._call.request
        read = [held[source] for _, source, _ in node.inputs]
        inputs = node.renaming(read, step.batches) or _each(node, read)
        batch = 0
        if step.batches:
            shapes = [shape_of(inputs, name) for name in inputs]
            batch = next((shape[0] for shape in reversed(shapes) if shape), 0)
        sequence = next((one.sequence for one in read if one.sequence is not None), None)
        for source in node.reads:
            take(held, source)
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
            self.asks.discard(ask)
        if self.ended:
            return
        node = ask.node
        nodes: tuple[Node, ...] = ()
        turn, emits = 0, False
        if answer.outputs or not answer.final or not (node.step.decoupled or ask.answered):
            ask.answered = True
            try:
                sequence = sequence_of(answer.parameters, ask.sequence)
            except InferenceError as error:
                self.fail(error)
                return
            turn = self._turn(ask)
            held = self._turns.setdefault(turn, {})
            for name, target, uses in node.outputs:
                held[target] = Held(answer.outputs, name, uses, ask.batch, sequence)
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
            for ask in self.asks:
                ask.hold(holding)

    def spent(self, call: Call) -> None:
        """Add what a step's model has spent on computing; the rest of the time is waiting."""
        if call.taken_ns:
            self._call.input_ns += call.input_ns
            self._call.infer_ns += call.infer_ns
            self._busy_ns += max(call.ended_ns - call.taken_ns, 0)

    def _emit(self, held: dict[str, Held]) -> None:
        outputs = {}
        sequence: Sequence | None = None
        for name in self._plan.outputs:
            one = held[name]
            take(held, name)
            sequence = sequence or one.sequence
            if one.tensor is None:
                log.debug("Composing models did not output tensor %s", name)
                continue
            dims = self._graph.outputs[name]
            outputs[name] = shaped(one.tensor, dims, self._graph.batches, one.batch)
        names = ("sequence_id", "sequence_start", "sequence_end")
        parameters = dict(zip(names, sequence, strict=True)) if sequence else {}
        self._send(Response(outputs, parameters, final=not self.asks))

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
            self._runs.pop(call, None)
        call.send(response)

    def fail(self, error: InferenceError) -> None:
        """End in a step's error, and with it what the other steps do."""
        if self.ended:
            return
        call = self._call
        call.taken_ns = call.input_ns = call.infer_ns = 0
        self._runs.pop(call, None)
        text = f"in ensemble '{self._graph.name}', {error.message}"
        call.fail(InferenceError(error.status, text))
        asks, self.asks = self.asks, set()
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

    @property
    def call(self) -> Call | None:
        return self._asked() if self._asked is not None else None

    def hold(self, held: bool) -> None:
        call = self.call
        if self.node.step.holds and call is not None and call.hold is not None:
            call.hold(held)

    def cancel(self) -> None:
        call = self.call
        if call is not None:
            call.cancel()


def _each(node: Node, read: list[Held]) -> dict[str, Tensor]:
    """The inputs of a step, tensor by tensor."""
    inputs = {}
    for (name, _, dims), one in zip(node.inputs, read, strict=True):
        tensor = one.tensor
        if tensor is not None:
            inputs[name] = shaped(tensor, dims, node.step.batches, one.batch)
    return inputs
