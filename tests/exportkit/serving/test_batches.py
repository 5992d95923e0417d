"""Queues: who shares a run, who is refused, and who waits."""

import asyncio
import threading
import time

import numpy as np
import pytest
from serving_models import fake

from exportkit.serving.answers import RequestError
from exportkit.serving.batches import Cores, Queue
from exportkit.serving.metrics import Meter
from exportkit.serving.options import Options

ROW = np.ones((1, 3), np.float32)


def on_loop(steps, model, **options):
    """Runs `steps(queue)` on an event loop, where each core is one thread."""

    async def main():
        cores = Cores()
        try:
            return await steps(Queue(model, cores, Options(**options), Meter()))
        finally:
            cores.close()

    return asyncio.run(main())


def doubled(runs):
    """Notes how many rows each run has."""

    def run(inputs, outputs, options=None):
        runs.append(len(inputs["x"]))
        return [inputs["x"] * 2 for _ in outputs]

    return run


def ask_all(inputs, outputs=None):
    async def steps(queue):
        asked = (queue.infer({"x": one}, out) for one, out in zip(inputs, outputs or [("y",)] * len(inputs), strict=True))
        return await asyncio.gather(*asked, return_exceptions=True)

    return steps


def test_requests_of_one_turn_share_runs_and_each_gets_its_own_rows():
    runs, inputs = [], [np.full((1 + number % 3, 3), number, np.float32) for number in range(20)]
    answers = on_loop(ask_all(inputs), fake(doubled(runs)), max_batch=8)
    for one, (answer,) in zip(inputs, answers, strict=True):
        np.testing.assert_array_equal(answer, one * 2)
    assert sum(runs) == sum(map(len, inputs))
    assert len(runs) < 20
    assert max(runs) <= 8


def test_nothing_is_shared_where_the_manifest_proves_no_rows_apart_or_where_it_is_turned_off():
    for model, options in ((fake(doubled([]), rows=""), {}), (fake(doubled([])), {"max_batch": 1})):
        runs = []
        model.run = doubled(runs)
        on_loop(ask_all([ROW] * 10), model, **options)
        assert runs == [1] * 10


def test_only_equal_shapes_and_outputs_share_a_run():
    runs = []
    on_loop(ask_all([np.ones((1, 2 + number % 2), np.float32) for number in range(10)]), fake(doubled(runs)), max_delay_ms=5)
    assert sorted(runs) == [5, 5]
    runs.clear()
    on_loop(ask_all([ROW] * 10, [("y",), ("y", "z")] * 5), fake(doubled(runs)), max_delay_ms=5)
    assert sorted(runs) == [5, 5]


def test_a_request_larger_than_any_batch_runs_alone():
    runs = []
    on_loop(ask_all([np.ones((50, 3), np.float32), ROW, ROW]), fake(doubled(runs)), max_batch=4, max_delay_ms=5)
    assert sorted(runs) == [2, 50]


def test_a_batch_that_fails_is_run_request_by_request():
    def run(inputs, outputs, options=None):
        if (inputs["x"] < 0).any():
            raise RequestError(400, "negative")
        return [inputs["x"] * 2]

    answers = on_loop(ask_all([ROW, -ROW, ROW]), fake(run), max_delay_ms=5)
    np.testing.assert_array_equal([answers[0][0], answers[2][0]], [ROW * 2] * 2)
    assert str(answers[1]) == "negative"


def test_a_network_whose_outputs_have_other_rows_is_not_torn_apart():
    answers = on_loop(ask_all([ROW, ROW * 2]), fake(lambda inputs, outputs, options=None: [inputs["x"].sum(0)]), max_delay_ms=5)
    assert [answer[0].tolist() for answer in answers] == [[1, 1, 1], [2, 2, 2]]


def test_a_fault_of_the_server_answers_its_request_and_ends_no_thread():
    def run(inputs, outputs, options=None):
        raise ZeroDivisionError

    for answer in on_loop(ask_all([ROW] * 3), fake(run, rows="")):
        assert (answer.status, answer.reason) == (500, "a fault of the server: ZeroDivisionError")


def test_requests_that_do_not_fit_into_memory_together_are_run_alone(monkeypatch):
    def concatenate(arrays):
        raise MemoryError

    monkeypatch.setattr(np, "concatenate", concatenate)
    runs = []
    answers = on_loop(ask_all([ROW] * 5), fake(doubled(runs)))
    assert len(answers) == 5
    for (answer,) in answers:
        np.testing.assert_array_equal(answer, ROW * 2)
    assert runs == [1] * 5


def blocked():
    """A run that waits until it is let go."""
    go = threading.Event()

    def run(inputs, outputs, options=None):
        go.wait(30)
        return [inputs["x"]]

    return run, go


def test_more_than_may_wait_are_refused_at_once():
    run, go = blocked()

    async def steps(queue):
        asked = [asyncio.create_task(queue.infer({"x": ROW}, ("y",))) for _ in range(queue.cores.count + 3)]
        for _ in range(5):
            await asyncio.sleep(0)
        assert len(queue.waiting) == 3
        with pytest.raises(RequestError, match="3 requests wait") as told:
            await queue.infer({"x": ROW}, ("y",))
        assert (told.value.status, told.value.retry) == (429, 1)
        go.set()
        await asyncio.gather(*asked)

    on_loop(steps, fake(run, rows=""), max_queue=3)


def test_who_waits_too_long_is_told_so_and_who_is_gone_is_not_run():
    run, go = blocked()
    ran = []

    async def steps(queue):
        first = [asyncio.create_task(queue.infer({"x": ROW}, ("y",))) for _ in range(queue.cores.count)]
        await asyncio.sleep(0.01)
        late = asyncio.create_task(queue.infer({"x": ROW}, ("y",)))
        gone = asyncio.create_task(queue.infer({"x": ROW}, ("y",)))
        await asyncio.sleep(0.01)
        gone.cancel()
        with pytest.raises(RequestError, match="no core was free") as told:
            await late
        assert told.value.status == 503
        queue.model.run = lambda inputs, outputs, options=None: ran.append(1) or [inputs["x"]]
        go.set()
        await asyncio.gather(*first)
        await queue.infer({"x": ROW}, ("y",))
        assert ran == [1]

    on_loop(steps, fake(run, rows=""), timeout=0.3)


def test_cores_go_on_while_the_event_loop_is_busy():
    runs = []

    async def steps(queue):
        number = queue.cores.count * 4
        asked = [asyncio.create_task(queue.infer({"x": ROW}, ("y",))) for _ in range(number)]
        for _ in range(5):
            await asyncio.sleep(0)
        end = time.monotonic() + 30
        while len(runs) < number and time.monotonic() < end:
            time.sleep(0.01)  # noqa: ASYNC251 - nothing else may run on the event loop
        assert len(runs) == number
        await asyncio.gather(*asked)
        assert queue.cores.free == queue.cores.count
        assert not queue.runs

    def run(inputs, outputs, options=None):
        time.sleep(0.001)
        return doubled(runs)(inputs, outputs)

    on_loop(steps, fake(run, rows=""))


def test_each_run_that_takes_too_long_is_ended():
    def run(inputs, outputs, options=None):
        while not options.terminate:
            time.sleep(0.01)
        raise RequestError(503, "ended")

    async def steps(queue):
        asked = [queue.infer({"x": ROW}, ("y",)) for _ in range(queue.cores.count)]
        assert {one.reason for one in await asyncio.gather(*asked, return_exceptions=True)} == {"ended"}
        after = await asyncio.gather(*(queue.infer({"x": ROW}, ("y",)) for _ in range(queue.cores.count)), return_exceptions=True)
        assert {one.reason for one in after} == {"ended"}

    on_loop(steps, fake(run, rows=""), timeout=0.3)


def test_models_take_turns():
    order = []

    async def main():
        cores = Cores()
        cores.count, cores.free = 1, 1
        go = threading.Event()

        def named(name):
            def run(inputs, outputs, options=None):
                go.wait(30)
                order.append(name)
                return [inputs["x"]]

            return Queue(fake(run, rows=""), cores, Options(), Meter())

        queues = [named("a"), named("b"), named("c")]
        asked = [asyncio.create_task(queue.infer({"x": ROW}, ("y",))) for queue in queues for _ in range(3)]
        await asyncio.sleep(0.01)
        go.set()
        await asyncio.gather(*asked)
        cores.close()

    asyncio.run(main())
    assert sorted(order) == sorted("aaabbbccc")
    assert {*order[1:4]} == {"a", "b", "c"}, order


def test_a_quick_network_runs_on_the_event_loops_own_thread():
    threads = []

    def run(inputs, outputs, options=None):
        threads.append(threading.current_thread() is threading.main_thread())
        return [inputs["x"]]

    async def steps(queue):
        for _ in range(5):
            await queue.infer({"x": ROW}, ("y",))

    on_loop(steps, fake(run))
    assert not threads[0]  # nothing is known of it yet
    assert threads[-1]
