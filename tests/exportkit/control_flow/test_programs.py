"""Lifted programs against eager: as generated source, as a .pt2, as ONNX; at lengths that the export never saw."""

import importlib.util
import io
import math
import warnings
from pathlib import Path

import pytest
import torch
from torch.export import Dim

from exportkit.control_flow import indexing, lift
from exportkit.control_flow.scalars import logarithm
from exportkit.control_flow.select import scripted
from tests.exportkit.control_flow.running import Numbered, Session, assert_same, exported

_FILE = Path(__file__).parents[2] / "samples" / "control_flow" / "programs.py"
_SPEC = importlib.util.spec_from_file_location("lift_programs", _FILE)
programs = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(programs)
PROGRAMS = programs.PROGRAMS
# Each a way of its own through the ONNX exporter: scan in cond, while, tables by their diagonals, a list with room, branches.
IN_ONNX = (
    "GatedCell",
    "ProjectedRows",
    "ZeroSteps",
    "EveryRowWritten",
    "WarpTable",
    "WithinBand",
    "Alignment",
    "GridOfCells",
    "TableOfEach",
    "Outer",
    "Continue",
    "EarlyReturn",
    "NumbersCarried",
    "Decisions",
    "History",
    "ListsReadBackwards",
    "RecentFirst",
    "ReversedRanges",
    "NothingYet",
    "InsertsInFront",
    "GrowsByCat",
    "GreedyTransformer",
    "GreedyUntilTheEnd",
    "WhileAppends",
    "OverlapAdd",
    "NestedAppendUnderIf",
    "HalvedView",
    "LogOfSizes",
)


def export_of(program, module):
    inputs = program.draw(program.lengths[0])
    return exported(module, inputs, tuple(dict.fromkeys(range(value.dim()), Dim.AUTO) for value in inputs))


def cases(program):
    for number, length in enumerate(program.lengths):
        torch.manual_seed(number)
        yield program.draw(length)


@pytest.fixture(autouse=True)
def _steady():
    torch.manual_seed(0)
    torch.set_num_threads(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's own, of its exporters
        yield


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_lifted_program_is_right_at_every_length(name):
    program = PROGRAMS[name]
    network = program.network().eval()
    module = lift(network)
    file = io.BytesIO()
    torch.export.save(export_of(program, module), file)
    file.seek(0)
    loaded = torch.export.load(file).module()
    with torch.no_grad():
        for inputs in cases(program):
            want = network(*(value.clone() for value in inputs))
            assert_same(module(*(value.clone() for value in inputs)), want)
            assert_same(loaded(*inputs), want)


@pytest.mark.parametrize("name", IN_ONNX)
def test_a_lifted_program_is_right_in_onnxruntime(name):
    program = PROGRAMS[name]
    network = program.network().eval()
    session = Session(export_of(program, Numbered(lift(network))))
    for inputs in cases(program):
        with torch.no_grad():
            want = network(*(value.clone() for value in inputs))
        assert_same(session(*inputs), want)


@pytest.mark.parametrize("length", [5, 6])
def test_a_view_that_is_no_split_at_a_length_is_refused_there(length):
    # of 5 rows, eager sees a.view(B, 2, 2, -1) as rows of another width: no part of the tensor, strided along one axis
    program = PROGRAMS["HalvedView"]
    made = export_of(program, lift(program.network().eval()))
    with pytest.raises(Exception, match=r"index|out of"):
        made.module(check_guards=False)(*program.draw(length))
    with pytest.raises(Exception, match=r"indices|idx|index"):
        Session(made)(*program.draw(length))


def test_the_logarithm_of_an_int_is_exact_at_powers_of_two_in_every_runtime():
    class Logs(torch.nn.Module):
        def forward(self, n):
            log = logarithm(n, 2.0)
            return torch.floor(log), torch.ceil(log), log

    program = exported(Logs(), (torch.tensor(5),), ({},))
    loaded, session = program.module(), Session(program)
    for n in sorted({max(1, 2**k + more) for k in range(48) for more in (-1, 0, 1)}):
        want = [float(math.floor(math.log2(n))), float(math.ceil(math.log2(n))), math.log2(n)]
        for found in (loaded(torch.tensor(n)), session(torch.tensor(n))):
            assert [float(one) for one in found[:2]] == want[:2], n
            assert math.isclose(float(found[2]), want[2], rel_tol=1e-15, abs_tol=1e-15), n


def test_what_hangs_on_a_row_alone_is_computed_for_all_rows_before_the_loop():
    source = lift(PROGRAMS["ProjectedRows"].network().eval()).lifted_source
    early, body = source.split("def body_1")
    assert early.count("indexing.projected(") == 2
    assert "aten.embedding(" in early
    assert "aten.layer_norm(" in early
    assert body.count("aten.linear(") == 2  # of what is carried, and with a weight that is


def test_the_source_names_the_users_lines():
    source = lift(PROGRAMS["GatedCell"].network().eval()).lifted_source
    assert "def forward(self, x):" in source
    assert "loops.repeat(" in source
    assert "# programs.py:" in source


def test_a_write_of_too_many_values_ends_as_in_eager():
    with pytest.raises(RuntimeError, match="invalid for input of size 2"):
        indexing.put(torch.zeros(3), (("select", 0, 1),), torch.ones(2))
    assert indexing.put(torch.zeros(3), (("select", 0, 1),), torch.ones(1)).tolist() == [0, 1, 0]


@pytest.mark.parametrize("name", ["ReversedRanges", "NothingYet"])
def test_what_torchscript_does_not_take_as_it_stands_is_scripted_in_its_words(name):
    program = PROGRAMS[name]
    module = program.network().eval()
    with pytest.raises(RuntimeError):
        torch.jit.script(module)
    made = scripted(module)
    for inputs in cases(program):
        assert_same(made(*inputs), module(*inputs))


def reversed(x):  # noqa: A001 - as a user may write it
    return x


class OwnReversed(torch.nn.Module):
    def forward(self, x):
        h = torch.zeros_like(x[:, 0])
        for t in reversed(range(x.shape[1])):
            h = torch.tanh(h * 0.5 + x[:, t])
        return h


def test_a_function_of_the_users_that_is_named_like_pythons_is_not_taken_for_it():
    with pytest.raises(RuntimeError, match="range cannot be used as a value"):
        scripted(OwnReversed().eval())
