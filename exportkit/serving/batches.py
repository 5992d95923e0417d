"""Requests wait in a queue for each model; runs take them from there, several at once where rows are proven not to touch each other.

A run takes one core: as many go on at once as there are cores, each on a thread that takes its next batch itself. Waiting for the event
loop to hand it one, its core would stand idle while that reads other requests. A network that takes less time than a change of threads,
whatever the values, runs on the event loop's own. What both sides touch is touched under one lock, held for moments.
"""

import asyncio
import functools
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from exportkit.serving.answers import RequestError
from exportkit.serving.metrics import Meter
from exportkit.serving.models import Model
from exportkit.serving.options import Options
from exportkit.serving.tensors import Array

_QUICK = 150e-6  # seconds: a change of threads there and back costs about as much
_SMALL = 1 << 16  # bytes of inputs: more may take longer than the runs before
_SWEEP = 0.25  # seconds between looks for requests that waited too long, and for runs that take too long

_NICE = 2  # of runs: enough for the event loop to go first, little beside other processes

Result = list[Array] | RequestError
Ran = tuple[float, float, list[Result]]


class Waiting:
    """A request in the queue."""

    __slots__ = ("answer", "inputs", "key", "outputs", "rows", "since")

    def __init__(
        self, inputs: Mapping[str, Array], outputs: tuple[str, ...], rows: int, key: Any, answer: "asyncio.Future[list[Array]]"
    ) -> None:
        self.inputs, self.outputs, self.rows, self.key, self.answer = inputs, outputs, rows, key, answer
        self.since = time.monotonic()


class Run:
    """A batch that runs."""

    __slots__ = ("batch", "options", "since")

    def __init__(self, batch: list[Waiting]) -> None:
        import onnxruntime

        self.batch, self.options, self.since = batch, onnxruntime.RunOptions(), time.monotonic()


class Cores:
    """The threads that run networks, shared by all models."""

    def __init__(self) -> None:
        self.count = len(os.sched_getaffinity(0))
        self.free = self.count
        self.threads = ThreadPoolExecutor(self.count, "run", initializer=_give_way)
        self.lock = threading.Lock()
        self._queues: deque[Queue] = deque()
        self._asked = False

    def want(self, queue: "Queue") -> None:
        """Notes that a queue has requests. Those that arrive in the same turn of the event loop are looked at together."""
        with self.lock:
            if queue not in self._queues:
                self._queues.append(queue)
        if not self._asked:
            self._asked = True
            asyncio.get_running_loop().call_soon(self.assign)

    def assign(self) -> None:
        """Starts as many runs as there are cores, taking queues in turn."""
        self._asked = False
        going = True
        while going:
            with self.lock:
                self._queues = deque(queue for queue in self._queues if queue.waiting)
                queues = list(self._queues)
            started = [queue.start() for queue in queues]
            going = any(started)

    def next(self) -> "tuple[Queue, Run] | None":
        """Takes the next batch for a core whose run is over, queues in turn; where there is none, the core is free."""
        with self.lock:
            for _ in range(len(self._queues)):
                queue = self._queues[0]
                self._queues.rotate(-1)
                if batch := queue.take():
                    return queue, queue.began(batch)
            self.free += 1
            return None

    def close(self) -> None:
        self.threads.shutdown(wait=False, cancel_futures=True)


class Queue:
    """The requests of one model that wait, and the runs that they become."""

    def __init__(self, model: Model, cores: Cores, options: Options, meter: Meter) -> None:
        self.model, self.cores, self.options, self.meter = model, cores, options, meter
        self.waiting: deque[Waiting] = deque()
        self.runs: set[Run] = set()
        self.most = options.max_batch if model.rows else 1
        self.delay = options.max_delay_ms / 1000 if self.most > 1 else 0.0
        self.busy: float | None = None  # seconds of a core that a run takes, lately
        self._loop = asyncio.get_running_loop()
        self._alarm: asyncio.TimerHandle | None = None
        self._sweeper: asyncio.TimerHandle | None = None

    async def infer(self, inputs: Mapping[str, Array], outputs: tuple[str, ...]) -> list[Array]:
        """Waits for a run.

        Returns:
            One array for each of `outputs`.

        Raises:
            RequestError: the queue is full, the time is over, or the network does not run on these inputs.
        """
        if len(self.waiting) - self.cores.free >= self.options.max_queue:
            raise RequestError(429, f"{len(self.waiting)} requests wait for this model already", retry=1)
        rows, key = 1, None
        if self.most > 1:
            first, *_ = inputs.values()
            rows, key = len(first), (outputs, *(array.shape[1:] for array in inputs.values()))
        one = Waiting(inputs, outputs, rows, key, self._loop.create_future())
        with self.cores.lock:
            self.waiting.append(one)
        if self._sweeper is None:
            self._sweeper = self._loop.call_later(_SWEEP, self._sweep)
        self.cores.want(self)
        return await one.answer

    def start(self) -> bool:
        """Starts one run if there are a core and a batch that need not wait for more; says whether it did."""
        with self.cores.lock:
            quick = self._is_quick()
            if not quick and not self.cores.free:
                return False
            batch = self.take()
            if not batch:
                if self.waiting and self._alarm is None:
                    self._alarm = self._loop.call_later(self._left(), self._ring)
                return False
            if not quick:
                self.cores.free -= 1
                begun = self.began(batch)
        if quick:
            self._finish(batch, run(self.model, batch))
        else:
            self.cores.threads.submit(_work, self, begun)
        return True

    def take(self) -> list[Waiting]:
        """Takes the oldest request and those that can share its run, the others keep their places; none if it may wait for more.

        The caller holds the lock.
        """
        while self.waiting and self.waiting[0].answer.done():  # its client is gone
            self.waiting.popleft()
        if not self.waiting or self._left() > 0:
            return []
        batch = [self.waiting.popleft()]
        if batch[0].key is None:
            return batch
        rows, left = batch[0].rows, deque[Waiting]()
        for one in self.waiting:
            if one.answer.done():
                continue
            if one.key == batch[0].key and rows + one.rows <= self.most:
                batch.append(one)
                rows += one.rows
            else:
                left.append(one)
        self.waiting = left
        return batch

    def began(self, batch: list[Waiting]) -> Run:
        """Notes a run; the caller holds the lock."""
        begun = Run(batch)
        self.runs.add(begun)
        return begun

    def ended(self, begun: Run, done: Ran, *, idle: bool) -> None:
        """Answers the requests of a run; where its core is idle, there may be a batch for it by now."""
        with self.cores.lock:
            self.runs.discard(begun)
        self._finish(begun.batch, done)
        if idle:
            self.cores.assign()

    def post(self, begun: Run, done: Ran, *, idle: bool) -> None:
        """Has the event loop take what a run gave."""
        self._loop.call_soon_threadsafe(functools.partial(self.ended, begun, done, idle=idle))

    def _is_quick(self) -> bool:
        """Says whether the oldest request takes less time than a change of threads."""
        if not self.waiting or self.busy is None or self.busy >= _QUICK or self.model.device != "cpu" or not self.model.steady:
            return False
        return sum(array.nbytes for array in self.waiting[0].inputs.values()) < _SMALL

    def _left(self) -> float:
        """Returns the seconds for which the oldest request may wait for others to share its run."""
        if not self.delay or sum(one.rows for one in self.waiting) >= self.most:
            return 0.0
        return max(0.0, self.waiting[0].since + self.delay - time.monotonic())

    def _ring(self) -> None:
        self._alarm = None
        self.cores.want(self)

    def _finish(self, batch: Sequence[Waiting], done: Ran) -> None:
        seconds, busy, results = done
        self.busy = busy if self.busy is None else 0.8 * self.busy + 0.2 * busy
        self.meter.runs.add(seconds)
        self.meter.rows.add(sum(one.rows for one in batch))
        self.meter.ran += len(batch)
        for one, result in zip(batch, results, strict=True):
            if one.answer.done():
                continue
            if isinstance(result, RequestError):
                one.answer.set_exception(result)
            else:
                one.answer.set_result(result)

    def _sweep(self) -> None:
        """Refuses what waited too long, and ends runs that take too long, between two of their nodes."""
        self._sweeper = None
        oldest = time.monotonic() - self.options.timeout
        late = []
        with self.cores.lock:
            while self.waiting and (self.waiting[0].since < oldest or self.waiting[0].answer.done()):
                late.append(self.waiting.popleft())
            for begun in self.runs:
                if begun.since < oldest:
                    begun.options.terminate = True
            busy = self.waiting or self.runs
        for one in late:
            if not one.answer.done():
                one.answer.set_exception(RequestError(503, f"no core was free for {self.options.timeout:g} s", retry=1))
        if busy:
            self._sweeper = self._loop.call_later(_SWEEP, self._sweep)


def _give_way() -> None:
    """Lets the event loop go before this thread: it has little to do, and behind a run it would keep other cores waiting."""
    if sys.platform == "linux":  # elsewhere a thread has no priority of its own
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)


def _work(queue: Queue, begun: Run) -> None:
    """Runs batches on a core until there are none."""
    now: tuple[Queue, Run] | None = (queue, begun)
    while now is not None:
        queue, begun = now
        done = run(queue.model, begun.batch, begun.options)
        now = queue.cores.next()
        queue.post(begun, done, idle=now is None)


def run(model: Model, batch: Sequence[Waiting], options: Any = None) -> Ran:
    """Runs a batch; where it does not run as one, each of its requests alone, so that one client's values harm no other.

    Returns:
        Wall seconds, seconds of this thread, and the outputs or the refusal of each request.
    """
    begun, busy = time.perf_counter(), time.thread_time()
    results: list[Result] = _together(model, batch, options) if len(batch) > 1 else []
    results = results or [_alone(model, one, options) for one in batch]
    return time.perf_counter() - begun, time.thread_time() - busy, results


def _alone(model: Model, one: Waiting, options: Any) -> Result:
    try:
        return model.run(one.inputs, one.outputs, options)
    except RequestError as error:
        return error
    except Exception as error:  # noqa: BLE001 - a fault of ours must answer its request and end no thread
        return RequestError(500, f"a fault of the server: {type(error).__name__}")


def _together(model: Model, batch: Sequence[Waiting], options: Any) -> list[Result]:
    """Runs the requests as one; nothing where they do not run so."""
    try:
        joined = {name: np.concatenate([one.inputs[name] for one in batch]) for name in batch[0].inputs}
    except MemoryError:
        return []
    outputs = _alone(model, Waiting(joined, batch[0].outputs, 0, None, batch[0].answer), options)
    ends = np.cumsum([one.rows for one in batch])
    if isinstance(outputs, RequestError) or any(output.ndim == 0 or len(output) != ends[-1] for output in outputs):
        return []
    return [[output[end - one.rows : end] for output in outputs] for one, end in zip(batch, ends, strict=True)]
