"""Two nested loops that fill a table: along its diagonals where its cells allow it, and right wherever they do not."""

import contextlib
import warnings

import pytest
import torch
from torch.export import Dim

from exportkit.control_flow import lift
from tests.exportkit.control_flow.running import Numbered, Session, assert_same, exported
from tests.exportkit.control_flow.test_programs import PROGRAMS
from tests.samples.control_flow.tables import SIZES, write

BY_DIAGONALS = (
    "WarpTable", "CommonSubsequence", "SoftWarp", "FirstRowByBranch", "WithinBand", "Alignment", "GridOfCells", "TableOfEach", "Outer",
    "FewStates", "AxisOfNumber",
)  # fmt: skip
CELL_BY_CELL = ("Triangle", "WrapsRound", "WrapsSometimes", "ReadsAhead", "IndexFromCell", "TwoWrites", "BubbleSort")


@pytest.fixture(autouse=True)
def _steady():
    torch.set_num_threads(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own, of its exporters
        yield


def by_diagonals(module):
    return "wavefront.filled(" in module.lifted_source


@pytest.mark.parametrize("name", BY_DIAGONALS)
def test_a_table_is_filled_along_its_diagonals(name):
    assert by_diagonals(lift(PROGRAMS[name].network().eval()))


@pytest.mark.parametrize("name", CELL_BY_CELL)
def test_a_table_whose_cells_hang_on_more_is_filled_cell_by_cell(name):
    assert not by_diagonals(lift(PROGRAMS[name].network().eval()))


def results(network, table):
    wanted = {}
    for size in SIZES:
        with contextlib.suppress(IndexError, RuntimeError), torch.no_grad():  # where eager reads beside the table, nobody is to
            wanted[size] = network(*table.draw(*size))
    return wanted


def check(seed):
    """Holds a lifted table to eager's at all sizes; returns whether it was filled along its diagonals."""
    table = write(seed)
    with contextlib.suppress(RuntimeError):  # a program that TorchScript does not take is none
        torch.jit.script(table.network)
        module = lift(table.network)
        for size, want in results(table.network, table).items():
            try:
                assert_same(module(*table.draw(*size)), want, 1e-4)
            except Exception as error:
                raise AssertionError(f"seed {seed} at {size}:\n{table.source}\n{module.lifted_source}") from error
        return by_diagonals(module)
    return False


def test_tables_that_nobody_wrote_are_right_at_every_size():
    filled = [check(seed) for seed in range(60)]
    assert 30 <= sum(filled) < 60


@pytest.mark.slow
@pytest.mark.parametrize("group", range(10))
def test_many_tables_that_nobody_wrote_are_right_at_every_size(group):
    for seed in range(1000 + 100 * group, 1100 + 100 * group):
        check(seed)


def check_in_runtimes(seed):
    """Holds a table to eager's in .pt2 and onnxruntime, at all sizes."""
    table = write(seed)
    wanted = results(table.network, table)
    inputs = table.draw(*SIZES[0])
    if SIZES[0] not in wanted:
        return
    dynamic = tuple(dict.fromkeys(range(value.dim()), Dim.AUTO) for value in inputs)
    try:
        module = lift(table.network)
    except RuntimeError:
        return
    made = exported(Numbered(module), inputs, dynamic)
    session, loaded = Session(made), made.module(check_guards=False)
    for size, want in wanted.items():
        for found in (loaded(*table.draw(*size)), session(*table.draw(*size))):
            assert_same(found, want, 1e-4)


@pytest.mark.parametrize("seed", range(4))
def test_tables_that_nobody_wrote_are_right_in_every_runtime(seed):
    check_in_runtimes(seed)


@pytest.mark.slow
@pytest.mark.parametrize("group", range(10))
def test_many_tables_that_nobody_wrote_are_right_in_every_runtime(group):
    for seed in range(100 + 10 * group, 110 + 10 * group):
        check_in_runtimes(seed)
