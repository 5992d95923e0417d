"""Lifted programs against eager: as generated source, as a .pt2, as ONNX; at lengths that the export never saw."""

import importlib.util
import io
import warnings
from pathlib import Path

import pytest
import torch
from torch.export import Dim

from exportkit.control_flow import lift
from tests.exportkit.control_flow.running import Numbered, Session, assert_same, exported

_FILE = Path(__file__).parents[2] / "samples" / "control_flow" / "programs.py"
_SPEC = importlib.util.spec_from_file_location("lift_programs", _FILE)
programs = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(programs)
PROGRAMS = programs.PROGRAMS
# Each a way of its own through the ONNX exporter: scan in cond, while, nested loops, a list with room, branches.
IN_ONNX = (
    "GatedCell",
    "ProjectedRows",
    "ZeroSteps",
    "EveryRowWritten",
    "WarpTable",
    "Continue",
    "EarlyReturn",
    "NumbersCarried",
    "Decisions",
    "History",
    "GrowsByCat",
    "WhileAppends",
    "OverlapAdd",
    "NestedAppendUnderIf",
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
