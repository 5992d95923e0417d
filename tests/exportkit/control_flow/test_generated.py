"""Programs that nobody wrote: eager, scripted, lifted, .pt2 and ONNX agree at every length, or the refusal names a line."""

import contextlib
import re
import signal
import warnings

import pytest
import torch
from hypothesis import HealthCheck, Phase, assume, given, seed, settings
from hypothesis import strategies as st
from torch.export import Dim

from exportkit.control_flow import lift
from exportkit.errors import ExportError
from tests.exportkit.control_flow.running import Numbered, Session, assert_same, exported
from tests.samples.control_flow.generator import FILE, generate

LENGTHS = (5, 1, 0, 8)  # the first is exported with; those at which eager raises are left out


@pytest.fixture(autouse=True)
def _steady():
    torch.set_num_threads(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own, of its exporters
        yield


@contextlib.contextmanager
def ending(seconds):
    """Stops a program that goes on for ever, as `for one in rows: rows.append(one)` does, after so many seconds of the processor."""

    def stop(*_):
        raise TimeoutError

    before = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def eager_results(program):
    """Runs eager and TorchScript; a program that they do not take, or take for different ones, is none."""
    network, wanted = program.network(), {}
    scripted = torch.jit.script(network)
    for length in LENGTHS:
        try:
            with torch.no_grad():
                with ending(1):  # it may fill gigabytes a second
                    wanted[length] = network(*program.draw(length))
                assert_same(scripted(*program.draw(length)), wanted[length], 1e-4)
        except Exception:  # noqa: BLE001 - whatever eager raises
            wanted.pop(length, None)
            assume(length != LENGTHS[0])
    return network, wanted


def lifted_results(program, network, lengths):
    """Yields what each form of the lifted program gives at each length."""
    module = Numbered(lift(network))
    axis = 1 if program.batched else 0
    inputs = program.draw(LENGTHS[0])
    with torch.no_grad():
        for length in lengths:
            yield "source", length, module(*program.draw(length))
        made = exported(module, inputs, tuple({axis if one.dim() > 1 else 0: Dim.AUTO} for one in inputs))
        loaded = made.module()
        for length in lengths:
            yield "pt2", length, loaded(*program.draw(length))
        session = Session(made)
        for length in lengths:
            yield "onnx", length, session(*program.draw(length))


def agrees(program):
    """Says whether a program was lifted, and right in all forms; where it was refused, that its line was named."""
    network, wanted = eager_results(program)
    assume(len(wanted) > 1)
    try:
        for form, length, got in lifted_results(program, network, wanted):
            try:
                assert_same(got, wanted[length], 1e-4)
            except AssertionError as error:
                pytest.fail(f"{form} is wrong at length {length}: {error}\n{program.source}")
    except ExportError as error:
        line = re.fullmatch(re.escape(FILE) + r":(\d+)", error.where or "")
        assert line, f"no line is named: {error}\n{program.source}"  # noqa: PT017 - the rest of the forms may raise, too
        assert int(line[1]) <= len(program.source.splitlines())
        return False
    except Exception as error:
        error.add_note(program.source)
        raise
    return True


@st.composite
def generated(draw, statements):
    return generate(lambda below: draw(st.integers(0, below - 1)), statements)


def run(part, programs, statements, lifted):
    outcomes = []

    @seed(part)
    @settings(max_examples=programs, database=None, deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
    @given(generated(statements))
    def check(program):
        outcomes.append(agrees(program))

    check()
    assert len(outcomes) >= programs
    assert sum(outcomes) >= lifted * len(outcomes), "more is refused than should be"


@pytest.mark.parametrize("part", range(5))
def test_small_programs_agree_in_every_form(part):
    run(part, programs=10, statements=1, lifted=0.6)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("part", range(25))
def test_programs_agree_in_every_form(part):
    run(1000 + part, programs=20, statements=6, lifted=0.4)  # each statement is one more to refuse
