"""What each value of an exported program should be: eager's own intermediates, and their local errors. Runs in forks of the holder.

torch's ONNX exporter names ONNX values after the nodes of the program that it converts; so the same program, run node by node, tells what
an ONNX value should be. A value's *local* truth is float64 arithmetic from eager's own values of the nearest recorded values before it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from torch._decomp import decomposition_table
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind, OutputKind
from torch.fx import GraphModule, Interpreter, Node
from torch.utils import _pytree as pytree
from torch.utils._python_dispatch import TorchDispatchMode

from exportkit import float64, golden, make, perturb
from exportkit.calling import to_tensor
from exportkit.formats.onnx import INNER, decomposed
from exportkit.load import Live
from exportkit.results import to_numpy
from exportkit.spec import Network, Runtime
from exportkit.worker import report

Arrays = dict[str, NDArray[Any]]

ROOM = 256 << 20  # bytes of eager's values in one file: with their truths, a perturbed run and what the runtime adds, 1 GiB
_MOVES = 2  # perturbed runs
_FINE_ROOM = 64 << 20


@dataclass(eq=False, slots=True)
class Program:
    """The program that an ONNX artifact was converted from.

    Attributes:
        outputs: the network's output -> the node that gives it.
    """

    live: Live
    exported: ExportedProgram
    outputs: Mapping[str, str]


def hold(
    live: Live, network: Network, strategy: str, opset: int | None, target: str | None, runtime: Runtime
) -> tuple[tuple[str, ...], Program]:
    """Makes the program again that a strategy converts, and holds it; also returns the names of its nodes.

    Raises:
        ExportError: the network is not exported again.
    """
    report("exporting once more")
    captures, options = make.prepare(live, network, opset, target, runtime)
    with torch.no_grad():
        program = decomposed(captures, strategy, options)
    given = [spec.arg.name for spec in program.graph_signature.output_specs if spec.kind == OutputKind.USER_OUTPUT]
    outputs = dict(zip((spec.name for spec in network.outputs), given, strict=True))
    return tuple(node.name for node in program.graph.nodes), Program(live, program, outputs)


def record(program: Program, cases: Path, case: str, wanted: Sequence[str], path: Path) -> tuple[str, ...]:
    """Writes what wanted values are on one case: eager's value, its local truth in float64, and eager's under perturbation.

    Args:
        cases: the folder with the cases' arrays.
        wanted: names of nodes, or of outputs; "scan/0/add" is the node add in the first step of the loop scan.
        path: a file for "eager/NAME", "local/NAME" and "moved/NAME/0".

    Returns:
        What was written: every wanted value of the program that is a tensor, or evenly spaced ones of them within `ROOM`.
    """
    torch.set_num_threads(1)
    inputs = _inputs(program, cases, case)
    nodes = {name: program.outputs.get(name, name.removeprefix(INNER)) for name in wanted}
    report("running the exported program")
    sizes: dict[str, int] = {}
    with torch.no_grad():
        _run(program, inputs, set(nodes.values()), lambda name, value: sizes.__setitem__(name, value.nbytes))
        chosen = _affordable(sizes)
        eager: dict[str, torch.Tensor] = {}
        _run(program, inputs, chosen, eager.__setitem__)
        report("running the exported program in float64")
        local = _local(program, inputs, eager)
        moved = [_moved(program, inputs, eager, seed) for seed in range(_MOVES)]
    told = {name: node for name, node in nodes.items() if node in eager}
    arrays: Arrays = {f"eager/{name}": to_numpy(eager[node]) for name, node in told.items()}
    arrays |= {f"local/{name}": to_numpy(local[node]) for name, node in told.items() if node in local}
    for number, run in enumerate(moved):
        arrays |= {f"moved/{name}/{number}": to_numpy(run[node]) for name, node in told.items() if node in run}
    golden.write(path, arrays)
    return tuple(told)


def record_fine(program: Program, cases: Path, case: str, nodes: Sequence[str], path: Path) -> None:
    """Writes every value that some nodes compute inside: those of the smaller operators that their operators decompose into.

    Args:
        nodes: consecutive nodes of the program, between recorded values.
        path: a file for "eager/NUMBER".
    """
    torch.set_num_threads(1)
    inputs = _inputs(program, cases, case)
    seen: list[torch.Tensor] = []
    with torch.no_grad():
        _Recorder(program.exported.graph_module, set(), lambda *_: None, fine=(set(nodes), seen)).run(*_arguments(program, inputs))
    room, arrays = _FINE_ROOM, {}
    for number, value in enumerate(seen):
        room -= value.nbytes
        if room >= 0:
            arrays[f"eager/{number}"] = to_numpy(value)
    golden.write(path, arrays)


def _inputs(program: Program, cases: Path, case: str) -> dict[str, torch.Tensor]:
    reader = golden.Reader(cases / f"{case}.safetensors")
    return {spec.name: to_tensor(reader.read(f"{case}/input/{spec.name}")) for spec in program.live.network.inputs}


def _arguments(program: Program, inputs: Mapping[str, torch.Tensor]) -> list[Any]:
    """Lists the values of the program's placeholders: weights, constants and the network's inputs."""
    given = iter(inputs.values())
    values: list[Any] = []
    for spec in program.exported.graph_signature.input_specs:
        if spec.kind == InputKind.USER_INPUT:
            values.append(spec.arg.value if hasattr(spec.arg, "value") else next(given))
        elif spec.target in program.exported.state_dict:
            values.append(program.exported.state_dict[spec.target].detach())
        else:
            constant = program.exported.constants[str(spec.target)]
            values.append(constant.detach() if isinstance(constant, torch.Tensor) else constant)
    return values


def _run(program: Program, inputs: Mapping[str, torch.Tensor], wanted: set[str], keep: Callable[[str, torch.Tensor], None]) -> None:
    _Recorder(program.exported.graph_module, wanted, keep).run(*_arguments(program, inputs))


def _local(program: Program, inputs: Mapping[str, torch.Tensor], eager: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Computes each value in float64 from eager's own values of those recorded before it."""
    found: dict[str, torch.Tensor] = {}
    arguments = _arguments(program, inputs)
    recorder = _Recorder(program.exported.graph_module, set(eager), found.__setitem__, given=eager)

    def call() -> dict[str, torch.Tensor]:
        recorder.run(*arguments)
        return found

    try:
        return float64.compute(call).value  # type: ignore[no-any-return]
    except Exception:  # noqa: BLE001 - an operator that float64 cannot follow: what was reached is known, eager stands for the rest
        return {}


def _moved(program: Program, inputs: Mapping[str, torch.Tensor], eager: Mapping[str, torch.Tensor], seed: int) -> dict[str, torch.Tensor]:
    """Computes each value in eager from the recorded values before it, moved by half an ulp: how rounding looks there."""
    found: dict[str, torch.Tensor] = {}
    given = perturb.inputs(eager, 7919 * (seed + 1), bit=0)
    try:
        moved = perturb.inputs(inputs, 104729 * (seed + 1), bit=0)
        _Recorder(program.exported.graph_module, set(eager), found.__setitem__, given=given).run(*_arguments(program, moved))
    except Exception:  # noqa: BLE001 - an operator that refuses a perturbed value just gives no evidence
        return {}
    return {name: value for name, value in found.items() if value.shape == eager[name].shape}


def _affordable(sizes: Mapping[str, int]) -> set[str]:
    """Chooses evenly spaced values, `ROOM` bytes of them."""
    parts = -(-sum(sizes.values()) // ROOM) or 1
    chosen, total, taken = set(), 0, 0
    for name, size in sizes.items():
        total += size
        if taken + size <= min(total / parts, ROOM):
            chosen.add(name)
            taken += size
    return chosen


class _Recorder(Interpreter):
    """Runs a program node by node.

    Args:
        wanted: the nodes whose tensors go to `keep`.
        given: values that later nodes get in place of the computed ones.
        prefix: stands before the names of a loop's or branch's own nodes.
        fine: (nodes, list): every tensor that these nodes compute inside goes to the list.
    """

    def __init__(
        self,
        module: GraphModule,
        wanted: set[str],
        keep: Callable[[str, torch.Tensor], None],
        *,
        given: Mapping[str, torch.Tensor] | None = None,
        prefix: str = "",
        fine: tuple[set[str], list[torch.Tensor]] | None = None,
    ) -> None:
        super().__init__(module)
        self._wanted, self._keep, self._given, self._prefix, self._fine = wanted, keep, given or {}, prefix, fine
        self._inputs = 0

    def run_node(self, n: Node) -> Any:
        name = self._prefix + n.name
        if self._prefix and n.op == "placeholder":  # a body's inputs go by number: ONNX names them otherwise
            name = f"{self._prefix}#{self._inputs}"
            self._inputs += 1
        self._node = name
        value = super().run_node(n)
        if self._fine and name in self._fine[0] and n.op == "call_function":
            self._fine[1].extend(leaf for leaf in pytree.tree_leaves(value) if isinstance(leaf, torch.Tensor))
            with _Finely(self._fine[1]), torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
                super().run_node(n)  # once more, in small steps: the fused kernel of attention shows none
        if name in self._wanted and n.op != "output" and (self._prefix or n.op != "placeholder"):
            tensor = torch.tensor(value) if isinstance(value, bool | int | float) else value
            if isinstance(tensor, torch.Tensor) and tensor.layout == torch.strided:
                self._keep(name, tensor)
        return self._given.get(name, value) if isinstance(value, torch.Tensor) else value

    def call_function(self, target: Any, args: Any, kwargs: Any) -> Any:
        """Runs an operator; of cond, while_loop and scan the bodies, node by node, too."""
        if isinstance(target, torch._ops.HigherOrderOperator):  # noqa: SLF001 - torch's own class of operators
            name = str(getattr(target, "_name", target))
            if name == "cond":
                return self._body(args[1] if bool(args[0]) else args[2], 0, args[3])
            if name == "while_loop":
                return self._while(*args)
            if name == "scan":
                return self._scan(*args)
        return super().call_function(target, args, kwargs)

    def _body(self, module: Any, step: int, operands: Sequence[Any]) -> Any:
        prefix = f"{self._node}/{step}/"
        node = self._node
        inner = _Recorder(module, self._wanted, self._keep, given=self._given, prefix=prefix, fine=self._fine)
        result = inner.run(*operands)
        self._node = node
        return result

    def _while(self, condition: Any, body: Any, carry: Any, more: Any = ()) -> Any:
        carry, step = list(carry), 0
        while bool(condition(*carry, *more)):
            carry = list(self._body(body, step, [*carry, *more]))
            step += 1
        return carry

    def _scan(self, body: Any, init: Any, rows: Any, more: Any = ()) -> Any:
        carry, stacked = list(init), []
        for step in range(rows[0].shape[0]):
            result = list(self._body(body, step, [*carry, *[one[step] for one in rows], *more]))
            carry = result[: len(init)]
            stacked.append(result[len(init) :])
        return [*carry, *[torch.stack(column) for column in zip(*stacked, strict=True)]]


class _Finely(TorchDispatchMode):
    """Notes every tensor that an operator computes, and those of the operators that it decomposes into."""

    def __init__(self, seen: list[torch.Tensor]) -> None:
        super().__init__()
        self._seen = seen

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self._seen += [leaf.clone() for leaf in pytree.tree_leaves(result) if isinstance(leaf, torch.Tensor)]
        if func in decomposition_table and not func._schema.is_mutable:  # noqa: SLF001 - torch's own way to ask
            try:
                with self:
                    decomposition_table[func](*args, **(kwargs or {}))
            except Exception:  # noqa: BLE001, S110 - a decomposition that does not take these arguments tells nothing
                pass
        return result
