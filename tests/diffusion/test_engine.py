"""The loop: who shares a forward, who leaves it, and that everybody gets one event."""

import math
import threading
from dataclasses import replace

import numpy as np
import pytest

from nerite.diffusion import (
    Aborted,
    Engine,
    EngineClosed,
    InvalidParams,
    Limits,
    Memory,
    Overdue,
    Painted,
    Params,
    Watch,
)
from nerite.diffusion.job import Job
from nerite.diffusion.samplers import SLOTS, build_table

SMALL = Params("small", steps=4, width=64, height=64)
LARGE = replace(SMALL, prompt="large", width=128)


class Recorder:
    """A pipeline without networks that writes down what the engine asks of it."""

    limits = Limits(width=64, height=64, max_size=256)

    def __init__(self):
        self.starts, self.forwards, self.finishes, self.dropped = [], [], [], []
        self.before_step = self.before_decode = lambda jobs: None
        self.now = 0.0

    def clock(self):
        """Seconds that pass only while a network runs."""
        return self.now

    def check(self, params):
        self.limits.check(params)

    def start(self, requests):
        self.starts.append([params.prompt for params in requests])
        if "unstartable" in self.starts[-1]:
            raise ValueError("cannot start")
        return [self._job(params) for params in requests]

    def _job(self, params):
        table = build_table({"_class_name": "DDIMScheduler"}, params.steps)
        shape = (params.num_images, SLOTS, 1, params.height // 8, params.width // 8)
        return Job(params, table, np.zeros(shape, np.float32), {}, None, [])

    def step(self, jobs):
        assert len({job.key for job in jobs}) == 1
        assert not any(job.done for job in jobs)
        self.before_step(jobs)
        self.now += 1.0
        self.forwards.append([job.params.prompt for job in jobs])
        for job in jobs:
            job.index += 1

    def decode(self, images):
        assert len({job.key for job, _ in images}) == 1
        assert all(job.done for job, _ in images)
        self.before_decode(images)
        self.now += 0.1 * len(images)
        self.finishes.append([job.params.prompt for job, _ in images])
        if any(job.params.prompt == "undecodable" for job, _ in images):
            raise ValueError("cannot finish")
        params = images[0][0].params
        return np.array([np.full((params.height, params.width, 3), k) for _, k in images], np.uint8)

    def preview(self, job, *, exact):
        return np.full((1, 1, 3), job.index, np.uint8)

    def drop(self, job):
        self.dropped.append(job.params.prompt)

    def trim(self):
        self.dropped.append("memory")


@pytest.fixture
def pipeline():
    return Recorder()


@pytest.fixture
def engine(pipeline):
    engine = Engine(pipeline, max_running_images=4, clock=pipeline.clock)
    yield engine
    engine.close(drain=False)


def drain(engine):
    while engine.step():
        pass


def named(name, **change):
    return replace(SMALL, prompt=name, **change)


def test_jobs_of_one_shape_share_their_forwards(engine, pipeline):
    events = []
    for name in "abc":
        engine.add(named(name), events.append)
    drain(engine)
    assert pipeline.starts == [["a", "b", "c"]]
    assert pipeline.forwards == [["a", "b", "c"]] * 4
    assert pipeline.finishes == [["a", "b", "c"]]
    assert [event.images.shape for event in events] == [(1, 64, 64, 3)] * 3


def test_requests_join_and_leave_between_two_steps(engine, pipeline):
    engine.add(named("a", steps=3), lambda event: None)
    engine.step()
    engine.add(named("b", steps=3), lambda event: None)
    drain(engine)
    assert pipeline.forwards == [["a"], ["a", "b"], ["a", "b"], ["b"]]
    assert pipeline.finishes == [["a"], ["b"]]


def test_shapes_take_turns(engine, pipeline):
    engine.add(SMALL, lambda event: None)
    engine.add(replace(SMALL, prompt="small too"), lambda event: None)
    engine.add(LARGE, lambda event: None)
    drain(engine)
    # Each of the three gets its share of the device: the pair has two turns to one.
    assert pipeline.forwards[:6].count(["small", "small too"]) == 4
    assert pipeline.forwards[6:] == [["large"]] * 2


def test_images_running_are_bounded_and_the_queue_is_first_come_first_served(engine, pipeline):
    running = []
    pipeline.before_step = lambda jobs: running.append(sum(job.rows for job in jobs))
    order = []
    for name, images in [("a", 2), ("b", 2), ("c", 3), ("d", 1), ("e", 1)]:
        request = named(name, num_images=images)
        engine.add(request, lambda event, name=name: order.append(name))
    drain(engine)
    assert max(running) == 4
    assert pipeline.starts == [["a", "b"], ["c", "d"], ["e"]]
    assert order == ["a", "b", "c", "d", "e"]


def test_a_request_that_can_never_fit_is_refused_at_once(engine):
    with pytest.raises(InvalidParams, match="num_images is 5.*from 1 to 4") as refusal:
        engine.add(named("a", num_images=5), pytest.fail)
    assert refusal.value.field == "num_images"
    with pytest.raises(InvalidParams, match="steps is 0"):
        engine.add(named("a", steps=0), pytest.fail)
    assert not engine.step()


def test_abort_frees_the_rows_before_the_next_step(engine, pipeline):
    events = {}
    tickets = {
        name: engine.add(
            named(name, num_images=2), lambda event, name=name: events.update({name: event})
        )
        for name in "abc"
    }
    engine.step()
    engine.abort(tickets["a"])
    engine.step()
    assert pipeline.forwards == [["a", "b"], ["b", "c"]]
    assert isinstance(events["a"], Aborted)
    drain(engine)
    assert isinstance(events["b"], Painted)
    assert isinstance(events["c"], Painted)
    assert len(pipeline.forwards) == 5  # four each, three of them shared


def test_abort_reaches_a_request_that_waits(engine, pipeline):
    events = []
    engine.add(named("a", num_images=4), lambda event: None)
    ticket = engine.add(named("b"), events.append)
    engine.step()
    engine.abort(ticket)
    engine.abort(ticket)
    drain(engine)
    assert [type(event) for event in events] == [Aborted]
    assert pipeline.starts == [["a"]]


def test_abort_after_the_event_does_nothing(engine):
    events = []
    ticket = engine.add(SMALL, events.append)
    drain(engine)
    engine.abort(ticket)
    drain(engine)
    assert [type(event) for event in events] == [Painted]


def test_a_failing_forward_fails_its_own_jobs_only(engine, pipeline):
    def fail_the_large(jobs):
        if jobs[0].params.width == 128:
            raise MemoryError("too large")

    pipeline.before_step = fail_the_large
    events = {}
    for request in (SMALL, LARGE):
        engine.add(request, lambda event, name=request.prompt: events.update({name: event}))
    drain(engine)
    assert isinstance(events["large"], MemoryError)
    assert isinstance(events["small"], Painted)


@pytest.mark.parametrize("name", ["unstartable", "undecodable"])
def test_a_failing_start_or_finish_is_an_event_too(engine, name):
    events = []
    engine.add(named(name), events.append)
    drain(engine)
    assert [str(event) for event in events] == [
        {"unstartable": "cannot start", "undecodable": "cannot finish"}[name]
    ]
    engine.add(SMALL, events.append)
    drain(engine)
    assert isinstance(events[1], Painted)


def test_an_exception_in_on_event_does_not_stop_the_engine(engine, caplog):
    events = []

    def fail(event):
        raise RuntimeError("the caller's fault")

    engine.add(SMALL, fail)
    engine.add(SMALL, events.append)
    drain(engine)
    assert isinstance(events[0], Painted)
    assert "on_event failed" in caplog.text


def test_on_event_may_add_and_abort(engine):
    events = []

    def again(event):
        ticket = engine.add(SMALL, events.append)
        engine.add(SMALL, events.append)
        engine.abort(ticket)

    engine.add(SMALL, again)
    drain(engine)
    assert sorted(type(event).__name__ for event in events) == ["Aborted", "Painted"]


def test_the_thread_paints_and_waits_without_turning(pipeline):
    engine = Engine(pipeline)
    engine.start()
    turns = []
    turn = engine.step
    engine.step = lambda: turns.append(1) or turn()
    for _ in range(2):
        painted = threading.Event()
        engine.add(SMALL, lambda event, painted=painted: painted.set())
        assert painted.wait(10)
    engine.close()
    assert len(turns) == 8  # four a picture, and none while nobody asked


def test_an_event_comes_from_the_engines_thread_without_its_lock(pipeline):
    engine = Engine(pipeline)
    engine.start()
    seen, done = [], threading.Event()

    def on_event(event):
        other = threading.Thread(target=lambda: seen.append(engine.wait_for_room(5)))
        other.start()
        other.join(10)
        seen.append(threading.current_thread().name)
        done.set()

    engine.add(SMALL, on_event)
    assert done.wait(10)
    assert seen == [True, "diffusion-engine"]
    engine.close()


def test_close_drains_what_is_open(pipeline):
    engine = Engine(pipeline, max_running_images=1)
    engine.start()
    events = []
    for _ in range(5):
        engine.add(SMALL, events.append)
    engine.close()
    assert [type(event) for event in events] == [Painted] * 5
    with pytest.raises(EngineClosed):
        engine.add(SMALL, events.append)


def test_close_without_draining_fails_what_is_open(pipeline):
    engine = Engine(pipeline, max_running_images=1)
    stepping, go_on = threading.Event(), threading.Event()

    def hold(jobs):
        stepping.set()
        assert go_on.wait(10)

    pipeline.before_step = hold
    engine.start()
    events = []
    for _ in range(3):
        engine.add(SMALL, events.append)
    assert stepping.wait(10)
    closing = threading.Thread(target=lambda: engine.close(drain=False))
    closing.start()
    go_on.set()
    closing.join(10)
    assert not closing.is_alive()
    assert [type(event) for event in events] == [EngineClosed] * 3
    assert len(pipeline.forwards) <= 4
    engine.close()


def test_close_of_an_engine_that_never_started(pipeline):
    events = []
    engine = Engine(pipeline)
    engine.add(SMALL, events.append)
    engine.close()
    assert [type(event) for event in events] == [Painted]
    with pytest.raises(RuntimeError):
        engine.start()


def test_room_is_granted_when_an_image_could_start(engine):
    assert engine.wait_for_room(0)
    engine.add(named("a", num_images=3), lambda event: None)
    assert not engine.wait_for_room(0)  # it waits: nobody knows yet what it leaves
    engine.step()
    assert engine.wait_for_room(0)
    engine.add(named("b", num_images=2), lambda event: None)
    engine.step()
    assert not engine.wait_for_room(0)
    drain(engine)
    assert engine.wait_for_room(0)


def test_some_may_wait_in_the_engine(pipeline):
    engine = Engine(pipeline, max_running_images=1, max_waiting=2, clock=pipeline.clock)
    for room in (True, False):
        engine.add(SMALL, lambda event: None)
        assert engine.wait_for_room(0) is room
    engine.step()
    assert engine.wait_for_room(0)
    drain(engine)


def test_waiting_for_room_ends_when_a_request_does(pipeline):
    engine = Engine(pipeline, max_running_images=1)
    go_on = threading.Event()
    pipeline.before_step = lambda jobs: go_on.wait(10)
    engine.start()
    engine.add(SMALL, lambda event: None)
    assert not engine.wait_for_room(0.01)
    threading.Timer(0.05, go_on.set).start()
    assert engine.wait_for_room(10)
    engine.close()
    assert not engine.wait_for_room(10)


def test_a_fault_of_the_loop_itself_fails_the_open_and_goes_on(pipeline, caplog):
    engine = Engine(pipeline)
    turn = engine._turn
    engine._turn = None
    engine.start()
    events, failed, painted = [], threading.Event(), threading.Event()
    engine.add(SMALL, lambda event: (events.append(event), failed.set()))
    assert failed.wait(10)
    engine._turn = turn
    engine.add(SMALL, lambda event: (events.append(event), painted.set()))
    assert painted.wait(10)
    assert [type(event) for event in events] == [AttributeError, Painted]
    engine.close()


def test_many_threads_adding_and_aborting_get_one_event_each(pipeline):
    engine = Engine(pipeline, max_running_images=3)
    engine.start()
    events = [[] for _ in range(120)]

    def caller(start):
        random = np.random.default_rng(start)
        for index in range(start, 120, 4):
            request = named(str(index), steps=1 + index % 5, num_images=1 + index % 3)
            ticket = engine.add(request, events[index].append)
            if random.random() < 0.4:
                engine.abort(ticket)
            if random.random() < 0.3:
                engine.wait_for_room(10)

    callers = [threading.Thread(target=caller, args=(start,)) for start in range(4)]
    for thread in callers:
        thread.start()
    for thread in callers:
        thread.join(30)
    engine.close()
    assert [len(each) for each in events] == [1] * 120
    assert {type(each[0]) for each in events} == {Painted, Aborted}


def watching(told, previews=0, exact=False):
    return Watch(told.append, previews, exact)


def slow_decoder(pipeline, seconds):
    """Previews by the decoder, and pictures, take so long; a step takes one second."""

    def preview(job, *, exact):
        pipeline.now += seconds if exact else 0.0
        pipeline.finishes.append([f"preview of {job.params.prompt}"] if exact else [])
        return np.full((1, 1, 3), job.index, np.uint8)

    pipeline.preview = preview


@pytest.mark.parametrize("seconds", [0.4, 3.0])
def test_previews_by_the_decoder_take_no_more_time_than_the_steps(engine, pipeline, seconds):
    slow_decoder(pipeline, seconds)
    told = {name: [] for name in "abc"}
    for name, notes in told.items():
        watch = watching(notes, previews=1, exact=True)
        engine.add(named(name, steps=30), lambda event: None, watch=watch)
    while not pipeline.forwards or len(pipeline.forwards) < 29:
        engine.step()
        shown = [one for one in pipeline.finishes if one]
        # What was saved up is at most one picture's time, and what was measured follows it.
        assert len(shown) * seconds <= len(pipeline.forwards) + 2 * seconds
    shown = [one for one in pipeline.finishes if one]
    assert len(shown) * seconds >= 0.6 * len(pipeline.forwards)
    drain(engine)
    seen = {name: sum(one.preview is not None for one in notes) for name, notes in told.items()}
    assert min(seen.values()) >= 1
    assert [one.step for one in told["a"] if not one.queue_position] == list(range(1, 31))


def test_who_is_alone_gets_every_preview(engine, pipeline):
    slow_decoder(pipeline, 3.0)
    told = []
    engine.add(named("a", steps=6), lambda event: None, watch=watching(told, 1, True))
    drain(engine)
    assert sum(one.preview is not None for one in told) == 5


def test_progress_is_told_after_each_step_and_previews_as_often_as_asked(engine, pipeline):
    told, events = [], []
    engine.add(named("a", steps=6), events.append, watch=watching(told, previews=2))
    drain(engine)
    assert [progress.step for progress in told] == [1, 2, 3, 4, 5, 6]
    assert {progress.steps for progress in told} == {6}
    assert {progress.queue_position for progress in told} == {0}
    assert [progress.preview is not None for progress in told] == [
        False, True, False, True, False, False,
    ]  # fmt: skip
    assert [progress.eta_seconds for progress in told] == [5, 4, 3, 2, 1, 0]
    assert [type(event) for event in events] == [Painted]


def test_who_waits_is_told_the_place_and_how_it_changes(engine):
    told = []
    for images in (4, 2, 2):
        engine.add(named("a", num_images=images), lambda event: None)
    engine.add(named("b"), lambda event: None, watch=watching(told))
    drain(engine)
    waited = [progress for progress in told if progress.queue_position]
    assert [progress.queue_position for progress in waited] == [3, 1]
    assert math.isnan(waited[0].eta_seconds)
    assert waited[1].eta_seconds > 0
    assert [progress.step for progress in told[-4:]] == [1, 2, 3, 4]


def test_an_exception_in_on_progress_does_not_stop_the_engine(engine, caplog):
    def fail(progress):
        raise RuntimeError("the caller's fault")

    events = []
    engine.add(SMALL, events.append, watch=Watch(fail))
    drain(engine)
    assert isinstance(events[0], Painted)
    assert "on_progress failed" in caplog.text


def test_a_request_whose_time_is_up_leaves_before_the_next_step(engine, pipeline):
    events = {}
    for name, timeout in (("a", 2.5), ("b", None), ("c", 0.0)):
        engine.add(
            named(name), lambda event, name=name: events.update({name: event}), timeout=timeout
        )
    drain(engine)
    assert isinstance(events["a"], Overdue)
    assert isinstance(events["c"], Overdue)
    assert isinstance(events["b"], Painted)
    assert pipeline.forwards == [["a", "b"], ["a", "b"], ["a", "b"], ["b"]]


def test_who_would_be_late_in_turns_goes_first(engine, pipeline):
    events = []
    engine.add(named("a", steps=20), lambda event: None)
    engine.add(LARGE, events.append, timeout=7.0)  # in turns its four steps would end at 8
    drain(engine)
    assert isinstance(events[0], Painted)


def test_decoding_many_pictures_does_not_hold_up_those_who_step(engine, pipeline):
    pipeline.before_decode = lambda images: setattr(
        pipeline, "now", pipeline.now + 0.4 * len(images)
    )  # half a second for each, a step takes one
    events = []
    engine.add(named("a", num_images=3, steps=2), events.append)
    engine.add(named("b", steps=9), events.append)
    drain(engine)
    assert [names for names in pipeline.finishes if names[0] == "a"] == [["a"], ["a", "a"]]
    assert [len(event.images) for event in events] == [3, 1]
    assert [image.max() for image in events[0].images] == [0, 1, 2]


def test_newcomers_join_a_few_at_a_time_where_others_step(engine, pipeline):
    engine.add(named("a", steps=6), lambda event: None)
    engine.step()
    for name in "bcd":
        engine.add(named(name), lambda event: None)
    drain(engine)
    assert pipeline.starts[0] == ["a"]
    assert [len(names) for names in pipeline.starts[1:]] == [1, 1, 1]


def test_memory_bounds_what_runs(pipeline):
    memory = Memory(per_pixel=1.0, budget=2 * 2 * 64 * 64)  # two guided pictures
    engine = Engine(pipeline, max_running_images=16, memory=memory, clock=pipeline.clock)
    for name in "abc":
        engine.add(named(name), lambda event: None)
    engine.add(replace(LARGE, width=256, height=256), lambda event: None)  # more than all there is
    drain(engine)
    assert max(len(names) for names in pipeline.forwards) == 2
    assert pipeline.finishes[-1] == ["large"]


def test_where_memory_runs_out_fewer_share_a_forward_and_nobody_is_lost(pipeline):
    def fail(jobs):
        if len(jobs) > 2:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")

    pipeline.before_step = fail
    memory = Memory(per_pixel=1.0, budget=1 << 40)
    engine = Engine(pipeline, max_running_images=8, memory=memory, clock=pipeline.clock)
    events = []
    for name in "abcd":
        engine.add(named(name), events.append)
    drain(engine)
    assert [type(event) for event in events] == [Painted] * 4
    assert max(len(names) for names in pipeline.forwards) == 2
    assert "memory" in pipeline.dropped
    for name in "efgh":  # and it stays so
        engine.add(named(name), events.append)
    before = len(pipeline.dropped)
    drain(engine)
    assert pipeline.dropped[before:].count("memory") == 0
    assert pipeline.starts[:2] == [["a", "b", "c", "d"], ["e", "f"]]  # no more than will run


def test_who_needs_too_much_memory_alone_is_the_only_one_lost(engine, pipeline):
    def fail(jobs):
        if jobs[0].params.width > 64:
            raise MemoryError

    pipeline.before_step = fail
    events = {}
    for request in (SMALL, LARGE):
        engine.add(request, lambda event, name=request.prompt: events.update({name: event}))
    drain(engine)
    assert isinstance(events["large"], MemoryError)
    assert isinstance(events["small"], Painted)


def test_starting_one_by_one_where_memory_runs_out(engine, pipeline):
    start, events = pipeline.start, []

    def choke(requests):
        if len(requests) > 1:
            raise MemoryError
        return start(requests)

    pipeline.start = choke
    for name in "abc":
        engine.add(named(name), events.append)
    drain(engine)
    assert [type(event) for event in events] == [Painted] * 3
    assert "memory" in pipeline.dropped


def test_decoding_one_by_one_where_memory_runs_out(engine, pipeline):
    def fail(images):
        if len(images) > 1:
            raise MemoryError

    pipeline.before_decode = fail
    events = []
    engine.add(named("a", num_images=3), events.append)
    drain(engine)
    assert events[0].images.shape == (3, 64, 64, 3)


def test_work_that_nobody_wants_is_dropped(engine, pipeline):
    ticket = engine.add(SMALL, lambda event: None)
    engine.step()
    engine.abort(ticket)
    drain(engine)
    assert pipeline.dropped == ["small"]
