"""Speed on a GPU: the part of benchmarks/cuda.py that takes times, and counts what they are spent on."""

import json
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from cuda_page import ONNX, TORCH, Row
from cuda_steps import apart, load

WARM, FEWEST, ENOUGH = 10, 30, 2.0  # runs before the first that counts; runs that each way gets; seconds after which it gets no more
WITHIN = 1.1  # so many times the fastest way may the ONNX take at the largest batch


def batched(live: Any, network: Any, size: int) -> dict[str, Any] | None:
    """Repeats the rows of the example to a batch; None where the network has no batch."""
    import torch

    symbol = next((one for one in network.symbols if any(axis == 0 for _, axis, _ in one.places)), None)
    if symbol is None:
        return None
    inputs = dict(live.example)
    for name, axis, offset in symbol.places:
        places = torch.arange(size + offset) % inputs[name].shape[axis]
        inputs[name] = inputs[name].index_select(axis, places)
    return inputs


def timed(
    file: Path, folder: Path, ways: Sequence[str], sizes: Sequence[int], device: str
) -> dict[tuple[int, str], tuple[float, bool] | str]:
    """Times some ways of running a network at some batches; none where the network has no batch.

    Returns:
        (batch, way) -> milliseconds of a run, and whether it gives what eager gives, or text where it does not run.
    """
    import torch

    from exportkit import calling, manifest, store

    calling.allow_tf32(on=False)
    network = manifest.read_network(store.read_manifest(folder)["network"])
    live = load(file)
    live.module.to(device)
    live.device = device
    wait = torch.cuda.synchronize if device == "cuda" else lambda: None
    found: dict[tuple[int, str], tuple[float, bool] | str] = {}
    for size in sizes:
        inputs = batched(live, network, size)
        if inputs is None:
            continue
        with torch.no_grad():
            expected = _leaves(live.call(inputs))
            for way in ways:
                try:
                    make = _way_in_torch if way in TORCH else _way_in_onnx
                    run, results = make(way, live, inputs, folder)
                    pairs = zip(results(), expected, strict=True)
                    right = all(torch.allclose(one.double(), two.double(), rtol=1e-3, atol=1e-4) for one, two in pairs)
                    found[size, way] = _median(run, wait), right
                except Exception as error:  # noqa: BLE001 - one way that does not run says nothing of the others
                    found[size, way] = f"{type(error).__name__}: {str(error).strip().splitlines()[0][:80]}"
    return found


def _median(run: Callable[[], Any], wait: Callable[[], None]) -> float:
    for _ in range(WARM):
        run()
    wait()
    times: list[float] = []
    until = time.perf_counter() + ENOUGH
    while len(times) < FEWEST or time.perf_counter() < until:
        started = time.perf_counter()
        run()
        wait()
        times.append(time.perf_counter() - started)
    return 1e3 * statistics.median(times)


def _leaves(result: Any) -> list[Any]:
    import torch
    from torch.utils import _pytree as pytree

    return [one.cpu() for one in pytree.tree_leaves(result) if isinstance(one, torch.Tensor)]


def _way_in_torch(way: str, live: Any, inputs: Mapping[str, Any], folder: Path) -> tuple[Callable[[], Any], Callable[[], list[Any]]]:
    import torch

    function: Any = live.module
    if way == "torchscript":
        function = torch.jit.load(folder / f"{live.network.name}.pt", map_location=live.device).eval()
        function = torch.jit.freeze(function) if hasattr(function, "training") else function
    elif way != "eager":
        function = torch.compile(live.module, mode=None if way == "compile" else way)
    positional, keywords = live.arguments({name: value.to(live.device) for name, value in inputs.items()})

    def run() -> Any:
        return function(*positional, **keywords)

    return run, lambda: _leaves(run())


def _way_in_onnx(way: str, live: Any, inputs: Mapping[str, Any], folder: Path) -> tuple[Callable[[], Any], Callable[[], list[Any]]]:
    import onnxruntime
    import torch

    file, device = folder / f"{live.network.name}.onnx", live.device
    session = _session(file, device, graph=way == "graph")
    names = [one.name for one in session.get_outputs()]
    arrays = {one.name: inputs[one.name].numpy() for one in session.get_inputs()}
    if way == "plain":
        return (lambda: session.run(names, arrays)), (lambda: [torch.as_tensor(one) for one in session.run(names, arrays)])
    binding = session.io_binding()
    held = {name: onnxruntime.OrtValue.ortvalue_from_numpy(array, device) for name, array in arrays.items()}
    for name, value in held.items():
        binding.bind_ortvalue_input(name, value)
    if way == "bound":
        for name in names:
            binding.bind_output(name, device)
    else:  # a captured graph writes its results to the same places in each run
        for name, one in zip(names, _session(file, device).run(names, arrays), strict=True):
            binding.bind_ortvalue_output(name, onnxruntime.OrtValue.ortvalue_from_numpy(one, device))

    def results() -> list[Any]:
        session.run_with_iobinding(binding)
        return [torch.as_tensor(one) for one in binding.copy_outputs_to_cpu()]

    return (lambda: session.run_with_iobinding(binding)), results


def _session(file: Path, device: str, *, graph: bool = False, profile: Path | None = None) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    if profile:
        options.enable_profiling, options.profile_file_prefix = True, str(profile)
    if device == "cpu":
        return onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    onnxruntime.preload_dlls()
    chosen = {"use_tf32": "0", "enable_cuda_graph": str(int(graph))}
    return onnxruntime.InferenceSession(str(file), options, providers=[("CUDAExecutionProvider", chosen), "CPUExecutionProvider"])


def costs(file: Path, folder: Path, size: int, device: str) -> str:
    """Names the operators that take longest in an ONNX, with their share of all."""
    from exportkit import manifest, store

    network = manifest.read_network(store.read_manifest(folder)["network"])
    inputs = batched(load(file), network, size)
    assert inputs is not None
    with tempfile.TemporaryDirectory() as scratch:
        session = _session(folder / f"{network.name}.onnx", device, profile=Path(scratch) / "profile")
        for _ in range(WARM):
            session.run(None, {one.name: inputs[one.name].numpy() for one in session.get_inputs()})
        events = json.loads(Path(session.end_profiling()).read_text())
    spent: Counter[str] = Counter()
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            spent[event["args"]["op_name"]] += event["dur"]
    return ", ".join(f"{name} {took / max(spent.total(), 1):.0%}" for name, took in spent.most_common(3))


def speed(file: Path, folder: Path, sizes: Sequence[int], device: str, limit: float) -> Iterator[Row]:
    """Times all ways of one network at each batch; a compiler of torch's has a process of its own, as it may take for ever."""
    plain = ("eager", "torchscript", *ONNX[: 3 if device == "cuda" else 2])
    found: dict[tuple[int, str], Any] = {}
    for ways in (plain, ("compile",), ("max-autotune",)):
        told = apart(limit, timed, file, folder, ways, sizes, device)
        found |= told if isinstance(told, dict) else {(size, way): told for size in sizes for way in ways}
    for size in sizes:
        times = {way: told for (at, way), told in found.items() if at == size}
        if not times:
            return
        row: Row = {
            "network": folder.name,
            "batch": size,
            "ms": {way: told if isinstance(told, str) else told[0] for way, told in times.items()},
            "wrong": [way for way, told in times.items() if isinstance(told, tuple) and not told[1]],
        }
        if missed(row, last=size == max(sizes)):
            row["costs"] = apart(limit, costs, file, folder, size, device)
        yield row


def missed(row: Row, *, last: bool) -> bool:
    """Says whether a row misses the goal: the ONNX is the fastest, at the last batch within a tenth of it."""
    times = {way: ms for way, ms in row["ms"].items() if isinstance(ms, float) and way not in row["wrong"]}
    ours = min((ms for way, ms in times.items() if way in ONNX), default=float("inf"))
    best = min((ms for way, ms in times.items() if way in TORCH), default=float("inf"))
    return (row["batch"] == 1 and ours > best) or (last and ours > WITHIN * best)


def counted(file: Path, folder: Path, size: int, device: str) -> tuple[float, float]:
    """Counts the operations of a run, and the bytes that it must at least move: weights, inputs and outputs, each once."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from exportkit import manifest, store

    live = load(file)
    inputs = batched(live, manifest.read_network(store.read_manifest(folder)["network"]), size) or live.example
    live.module.to(device)
    live.device = device
    flops = FlopCounterMode(display=False)
    with torch.no_grad(), flops:
        outputs = _leaves(live.call(inputs))
    moved = [*live.module.parameters(), *live.module.buffers(), *inputs.values(), *outputs]
    return float(flops.get_total_flops()), float(sum(one.numel() * one.element_size() for one in moved))


def ceilings(device: str) -> tuple[float, float]:
    """Measures the float32 operations of a product, and the bytes read and written by a copy, per second."""
    import torch

    from exportkit import calling

    calling.allow_tf32(on=False)
    wait = torch.cuda.synchronize if device == "cuda" else lambda: None
    side, count = (8192, 1 << 28) if device == "cuda" else (1024, 1 << 24)
    left = torch.randn(side, side, device=device)
    values = torch.randn(count, device=device)
    return 2 * side**3 / (1e-3 * _median(lambda: left @ left, wait)), 8 * count / (1e-3 * _median(values.clone, wait))


def roofline(nets: Mapping[Path, Path], rows: Sequence[Row], device: str, limit: float) -> list[Row]:
    """Says how near the ONNX of the two networks with most weights comes to the ceiling, at the largest batch that was timed."""
    peak = apart(limit, ceilings, device)
    largest = sorted(nets, key=lambda file: (nets[file] / f"{nets[file].name}.onnx").stat().st_size)[-2:]
    found: list[Row] = []
    for file in largest if isinstance(peak, tuple) else ():
        timed_rows = [row for row in rows if row["network"] == nets[file].name]
        work = apart(limit, counted, file, nets[file], timed_rows[-1]["batch"], device) if timed_rows else "not timed"
        ours = [ms for way, ms in timed_rows[-1]["ms"].items() if way in ONNX and isinstance(ms, float)] if timed_rows else []
        if isinstance(work, tuple) and ours:
            least = 1e3 * max(work[0] / peak[0], work[1] / peak[1])
            found.append({
                "network": nets[file].name, "batch": timed_rows[-1]["batch"], "operations": work[0], "bytes": work[1],
                "ceiling": {"operations a second": peak[0], "bytes a second": peak[1]},
                "least ms": least, "ms": min(ours), "share": least / min(ours),
            })  # fmt: skip
    return found
