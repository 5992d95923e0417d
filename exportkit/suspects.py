"""Searches an ONNX artifact for the first node whose own error is far above eager's. Runs in forks of the server; needs no torch.

Every value whose reference is known is cut: what computes it runs on the reference's own inputs, so that its error there is its own, and
not the one it was handed. All values are computed in one run of the cut model.
"""

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray
from onnx.reference import ReferenceEvaluator

from exportkit import evidence, golden, graphs
from exportkit.backends.onnxruntime import bare_session, run_session
from exportkit.cuts import Cut, cut_at, distance, inputs_of, opened, passes, prefix_of, recorded_in, run, run_all
from exportkit.errors import RunError
from exportkit.gaps import as_truth, gap, rms
from exportkit.messages import Gap, Place, Scene, Suspect
from exportkit.worker import report

Array = NDArray[Any]

_DOUBTFUL, _FAR = 8.0, 50.0  # times eager's own local error: worth a trial, and wrong whatever the trial says
_MOST_TRIALS = 8
_SMALL = 20.0  # times the limits
_MASKED = 1e37
_MOST_AXES = 8
_STEPS = 3  # of a loop: what is wrong in each step shows in the first ones
# What only moves, shapes or looks at numbers.
_MOVERS = frozenset(
    {
        *("Cast", "Concat", "Expand", "Flatten", "Gather", "Range", "Reshape"),
        *("Shape", "Size", "Slice", "Split", "Squeeze", "Tile", "Transpose", "Unsqueeze"),
    }
)
_SHAPERS = frozenset(("Cast", "Flatten", "Reshape", "Squeeze", "Unsqueeze"))
_SCOPED = ("If", "Loop", "Scan")
_MOST_FOR_STANDARD = 1 << 22  # elements: onnx's reference implementation is slow


def begin(scene: Scene, case: str) -> Suspect:
    """Finds out whether the fault is the optimiser's, and asks for all values of the graph that is to be searched."""
    report("running the artifact without optimisations")
    file = scene.folder / scene.artifact.files[0]
    plain = bare_session(file, scene.runtime, optimised=False)
    names = [spec.name for spec in scene.network.outputs]
    if not passes(scene, case, run_session(plain, inputs_of(scene, case), names)):
        found = Suspect(file, optimiser=False, case=case)
    else:
        saved = scene.scratch / "optimised.onnx"
        bare_session(file, scene.runtime, optimised=True, save=saved)
        found = Suspect(saved, optimiser=True, case=case)
    return replace(found, ask=tuple(graphs.written(graphs.load(found.file).graph)))


def look(scene: Scene, suspect: Suspect, reference: Path) -> Suspect:
    """Takes the references that a search asked for, and says where the fault is or what to ask next."""
    known, model = golden.Reader(reference), graphs.load(suspect.file)
    if not suspect.unfolded:
        suspect = replace(suspect, program=_program_is_wrong(scene, suspect.case, known))
        found = _first_wrong(scene, cut_at(scene, suspect.case, model, known), suspect)
        return found or replace(suspect, ask=())
    for step in range(_STEPS):
        inside = replace(suspect, unfolded=(*suspect.unfolded[:-1], (*suspect.unfolded[-1][:2], step)))
        found = _first_wrong(scene, cut_at(scene, suspect.case, model, known, inside.unfolded), inside)
        if found is not None:
            return found
    return replace(suspect, ask=(), unfolded=suspect.unfolded[:-1])  # every step of its body is right: the node itself is not


def narrow(scene: Scene, suspect: Suspect, reference: Path, fine: Path | None) -> Suspect:
    """Finds the node to blame among those that compute the suspect value, and measures it apart from what it was handed.

    Args:
        fine: values that torch computes between the known ones; None where there are none.
    """
    known = golden.Reader(reference)
    cut = cut_at(scene, suspect.case, graphs.load(suspect.file), known, suspect.unfolded)
    nodes = suspect.nodes
    if fine is not None and len(nodes) > 1:
        nodes = _ordered(scene, cut, suspect, golden.Reader(fine))
    suspect = replace(suspect, nodes=_traced(scene, nodes) if suspect.optimiser else nodes, standard=_standard(cut, suspect))
    return suspect if suspect.unfolded else _with_handed(scene, suspect, cut)


def _program_is_wrong(scene: Scene, case: str, known: golden.Reader) -> bool:
    """Judges torch's exported program itself: where that is wrong, no ONNX node is at fault."""
    names = [spec.name for spec in scene.network.outputs]
    return recorded_in(known).issuperset(names) and not passes(scene, case, {name: known.read(f"eager/{name}") for name in names})


def _first_wrong(scene: Scene, cut: Cut, suspect: Suspect) -> Suspect | None:
    """Finds the first value of a cut model whose local error is far above eager's."""
    prefix = prefix_of(cut, suspect.unfolded)
    wanted = [name for name in cut.given if cut.keys[name].startswith(prefix)]
    gaps = {name: result if isinstance(result, Gap) else gap(cut.sample(name), result) for name, result in run_all(scene, cut, wanted)}
    wrong = [name for name in wanted if gaps[name].times > _DOUBTFUL]
    name = _decisive(scene, cut, suspect, wrong, gaps)
    if not name:
        return None
    nodes, frontier = graphs.segment(graphs.written(cut.model.graph)[name], cut.given)
    found = replace(
        suspect,
        value=name,
        nodes=tuple(_place(node, scene.network.source.file) for node in reversed(nodes)),
        known=tuple(str(value.name) for value in frontier),
        local=gaps[name],
        others=sum(gaps[one].times > _FAR for one in wrong[wrong.index(name) + 1 :]),
        ask=(),
    )
    # Where not all values had room, those between the known ones are asked for next.
    between = [str(value.name) for node in nodes for value in node.outputs if value.name in suspect.ask and value.name != name]
    again = (*between, *(one for one in found.known if one in cut.given), name)
    if between and not suspect.unfolded and set(again) < set(suspect.ask):
        return replace(found, ask=again)
    body = next((node for node in reversed(nodes) if node.op_type in _SCOPED and graphs.torch_node(node)), None)
    if body is not None:
        return _into(scene, cut, found, body)
    return replace(found, fine=tuple(dict.fromkeys(prefix + one for node in nodes if (one := graphs.torch_node(node)))))


def _decisive(scene: Scene, cut: Cut, suspect: Suspect, wrong: Sequence[str], gaps: Mapping[str, Gap]) -> str:
    """Finds the first doubtful value that matters: the artifact's error shrinks when its readers get the reference instead."""
    far = next((name for name in wrong if gaps[name].times > _FAR), "")
    if suspect.unfolded:
        return far or max(wrong, key=lambda name: gaps[name].times, default="")
    outputs = [spec.name for spec in scene.network.outputs]
    tried = sorted(sorted(wrong, key=lambda name: -gaps[name].times)[:_MOST_TRIALS], key=wrong.index)
    if len(tried) > 1 or not far:
        before = distance(scene, suspect.case, run(scene, replace(cut, given={}), outputs))
        for name in tried:
            if name in outputs:
                return name
            with contextlib.suppress(RunError):  # the wrong value may have been of a shape that its readers were made for
                after = distance(scene, suspect.case, run(scene, replace(cut, given={name: cut.given[name]}), outputs))
                if after < before * (0.5 if before < _SMALL else 0.98):  # a large error shrinks a little where one of several faults goes
                    return name
    return far


def _into(scene: Scene, cut: Cut, found: Suspect, body: ir.Node) -> Suspect:
    """Asks for the values inside the body of a suspect If, Loop or Scan."""
    attribute, steps = "body", range(_STEPS)
    if body.op_type == "If":
        condition = str(body.inputs[0].name if body.inputs[0] else "")
        attribute, steps = "then_branch" if bool(_value(scene, cut, condition)) else "else_branch", range(1)
    inner = list(dict.fromkeys(scope for node in graphs.bodies(body)[attribute] if (scope := graphs.torch_node(node))))
    inner += [f"#{place}" for place in range(len(body.inputs))]
    start = prefix_of(cut, found.unfolded) + graphs.torch_node(body)
    ask = [f"{start}/{step}/{one}" for step in steps for one in inner]
    outer = [key for key in cut.keys.values() if key not in ask]
    return replace(found, unfolded=(*found.unfolded, (str(body.outputs[0].name), attribute, 0)), ask=(*outer, *ask))


def _value(scene: Scene, cut: Cut, name: str) -> Array:
    """Computes one value from the known ones."""
    if name in cut.given:
        return cut.eager(name)
    return cut.feeds[name] if name in cut.feeds else run(scene, cut, [name])[name]


def _place(node: ir.Node, user_file: str) -> Place:
    origin = graphs.origin(node, user_file)
    inputs, outputs = (tuple("" if value is None else str(value.name) for value in values) for values in (node.inputs, node.outputs))
    return Place(node.name or "", node.op_type, outputs, inputs, origin.module, origin.kind, origin.operator, origin.where, origin.code)


def _traced(scene: Scene, nodes: Sequence[Place]) -> tuple[Place, ...]:
    """Fills in where optimised nodes come from: the optimiser keeps the names of values, and loses the rest."""
    original = graphs.written(graphs.load(scene.folder / scene.artifact.files[0]).graph)
    told = []
    for place in nodes:
        value = original.get(place.outputs[0])
        writer = value.producer() if value is not None and not place.operator else None
        if writer is None:
            told.append(place)
        else:
            source = _place(writer, scene.network.source.file)
            told.append(replace(source, name=place.name, op=place.op, outputs=place.outputs, inputs=place.inputs))
    return tuple(told)


def _ordered(scene: Scene, cut: Cut, suspect: Suspect, fine: golden.Reader) -> tuple[Place, ...]:
    """Puts the node first that most likely is at fault.

    A value inside is right where torch computes the same numbers on its own way, and so is what leads to a right value, and a shape, which
    torch computes elsewhere; a node that only repeats what it reads proves nothing. Of the nodes that are left, those that read right
    values only are suspect: one that computes before one that only moves or shapes.
    """
    places = list(reversed(suspect.nodes))  # in the graph's order: the last one writes the wrong value
    inner = [name for one in places[:-1] for name in one.outputs if name]
    results = {name: value for name, value in run_all(scene, cut, inner) if isinstance(value, np.ndarray)}
    values = {**results, **cut.feeds, **{name: cut.eager(name) for name in suspect.known if name in cut.given}}
    known = [*(fine.read(key) for key in fine.names()), *(values[name] for name in suspect.known if name in values)]
    known += [~value for value in known if value.dtype == bool]  # a mask may say what to leave out
    truths = [_plain(value) for value in known]
    shapes = {name for name, value in results.items() if _is_shape(value)}
    right = _right(places, values, truths, {*suspect.known, *cut.feeds}, shapes)
    doubtful = [place for place in places if not (right | shapes).intersection(place.outputs)]
    unsure = {name for place in doubtful for name in place.outputs}
    roots = [place for place in doubtful if not unsure.intersection(place.inputs)]
    first = next((place for place in roots if place.op not in _MOVERS), roots[0])
    return (first, *(place for place in reversed(doubtful) if place is not first))


def _right(places: Sequence[Place], values: Mapping[str, Array], truths: Sequence[Array], trusted: set[str], shapes: set[str]) -> set[str]:
    """Lists the values inside a segment that are right: the last node's are not among them."""
    frontier = [_plain(values[name]) for name in trusted if name in values]
    right: set[str] = set()
    for place in places[:-1]:
        own = [_plain(values[one]) for one in place.inputs if one in values]
        told = [values[name] for name in place.outputs if name in values and name not in shapes]
        shaper = place.op in _SHAPERS or (place.op in _MOVERS - {"Transpose"} and any(_is_among(value, own) for value in told))
        news = [value for value in told if not _is_among(value, frontier if shaper else own)]
        if (shaper and place.inputs[0] in right | trusted) or any(_is_among(value, truths) for value in news):
            right.update(place.outputs)
    for place in reversed(places[:-1]):
        if any((right - shapes).intersection(one.outputs) and set(place.outputs).intersection(one.inputs) for one in places):
            right.update(place.outputs)
    return right


def _is_shape(value: Array) -> bool:
    return value.dtype == np.int64 and value.ndim <= 1 and value.size <= _MOST_AXES


def _is_among(result: Array, truths: Sequence[Array]) -> bool:
    """Says whether torch computed these very numbers, too, whatever the shape; a few numbers agree by chance."""
    values = _plain(result)
    if values.size < 4 or np.isnan(values).any():  # noqa: PLR2004 - see above
        return False
    finite = np.isfinite(values)
    limit = 1e-5 * rms(values[finite])
    for truth in truths:
        if truth.size == values.size and np.array_equal(truth[~finite], values[~finite]) and rms(truth[finite] - values[finite]) <= limit:
            return True
    return False


def _plain(values: Array) -> Array:
    """Lists numbers as float64; the lowest float, with which exporters mask, is the minus infinity that torch has."""
    flat = evidence.widen(values).ravel()
    return np.where(np.abs(flat) > _MASKED, np.copysign(np.inf, flat), flat)


def _standard(cut: Cut, suspect: Suspect) -> Gap | None:
    """Measures onnx's own reference implementation of the suspect nodes on the same inputs; None where it does not run."""
    known = {name: cut.given[name] for name in suspect.known if name in cut.given}
    feeds = {**cut.feeds, **{f"given/{name}": cut.eager(name) for name in known}}
    model = graphs.cut(cut.model, known, [suspect.value])
    taken = {str(value.name): feeds[str(value.name)] for value in model.graph.inputs}
    if sum(value.size for value in taken.values()) > _MOST_FOR_STANDARD:
        return None
    try:
        result = next(iter(ReferenceEvaluator(ir.to_proto(model)).run(None, taken)))
    except Exception:  # noqa: BLE001 - it knows not every operator, and none of onnxruntime's own
        return None
    return gap(cut.sample(suspect.value), np.asarray(result))


def _with_handed(scene: Scene, suspect: Suspect, cut: Cut) -> Suspect:
    """Runs the artifact as it is served and measures what the suspect nodes were handed, and what they made of it."""
    names = [name for name in (*suspect.known, suspect.value) if name in cut.keys]
    values = graphs.written(cut.model.graph)
    names = [name for name in names if name in values]
    model = cut.model.clone()
    mine = graphs.written(model.graph)
    model.graph.outputs.extend(mine[name] for name in names if not mine[name].is_graph_output())
    try:
        with opened(model, scene) as session:
            results = run_session(session, inputs_of(scene, suspect.case), names)
    except RunError:
        return suspect
    gaps = {name: gap(as_truth(cut.eager(name)), result) for name, result in results.items()}
    handed = max((one for name, one in gaps.items() if name != suspect.value), key=lambda one: one.relative, default=Gap(0.0))
    return replace(suspect, handed=handed, reached=gaps[suspect.value])
