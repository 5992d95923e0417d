"""Networks on a GPU: parity, placement, determinism and speed.

    python benchmarks/cuda.py [NET.py ...] [--only parity,speed,roofline] [--dtypes float32,float16,bfloat16] [--batches 1,16,256]
        [--device cuda] [--limit 300] [--json benchmarks/results/cuda.json] [--page docs/cuda.md]

Without a file, the reference networks. Each step has a process of its own, which ends after `--limit` seconds, then the row says so.
- parity: each format judged on CUDA, by element type; TF32 and, for fixed shapes, CUDA graphs beside it; where the nodes ran; whether
  ten runs give the same bits; and what the same artifacts give on the CPU, where that is another verdict.
- speed: milliseconds of a run (median, synchronised, after warm-up, without TF32) of eager, frozen TorchScript, torch.compile as it comes
  and with max-autotune, and of the ONNX: plain (arrays of the host in and out), bound (all on the GPU), graph (captured). "wrong" is
  beside a way whose result is not eager's.
- roofline, of the two networks with most weights: operations and bytes that eager counts, and the share of the ceiling, which a copy and
  a product measured here set, that the fastest ONNX reaches.
The goal: an ONNX is the fastest of all at batch 1, and within a tenth of the fastest at the largest; a row that misses it names the
operators that take longest. Exits with 1 where the goal is missed, or a format is not proven. `--device cpu` rehearses all but CUDA
graphs.
"""

import argparse
import json
import multiprocessing
import platform
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
TORCH = ("eager", "torchscript", "compile", "max-autotune")
ONNX = ("plain", "bound", "graph")
PARTS = ("parity", "speed", "roofline")
WARM, FEWEST, ENOUGH = 10, 30, 2.0  # runs before the first that counts; runs that each way gets; seconds after which it gets no more
WITHIN = 1.1  # so many times the fastest way may the ONNX take at the largest batch
RUNS = 10  # that must give the same bits
BEGIN, END = "<!-- measured by benchmarks/cuda.py -->", "<!-- end -->"

Row = dict[str, Any]


def apart(limit: float, function: Callable[..., Any], *args: Any) -> Any:
    """Runs a function in a process of its own, which no other one's GPU memory or compiler touches; text says why there is no result."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_send, args=(sender, function, args))
    process.start()
    sender.close()
    try:
        return receiver.recv() if receiver.poll(limit) else f"> {limit:.0f} s"
    except EOFError:
        return "died"
    finally:
        process.kill()
        process.join()


def _send(sender: Any, function: Callable[..., Any], args: Sequence[Any]) -> None:
    try:
        sender.send(function(*args))
    except Exception as error:  # noqa: BLE001 - a row says what went wrong, and the next one follows
        text = str(error).strip().splitlines()
        sender.send(f"{type(error).__name__}: {text[0][:160] if text else ''}")


def load(file: Path, dtype: str = "float32") -> Any:
    """Loads a network as an export does, and casts what is float32 in it and in its example."""
    import torch

    from exportkit import load as loading

    _, live = loading.hold(str(file))
    kind = getattr(torch, dtype)
    live.module.to(kind)
    live.example = {name: value.to(kind) if value.dtype == torch.float32 else value for name, value in live.example.items()}
    live.check_inputs = []
    return live


def export(live: Any, to: Path, device: str) -> Any:
    """Exports a loaded network, and judges it on a device."""
    import exportkit

    positional, keywords = live.arguments(live.example)
    example = {**dict(zip((spec.name for spec in live.network.inputs), positional, strict=False)), **keywords} if keywords else positional
    options = {"provider": device, "allow_cpu_nodes": True, "keep_partial": True, "timeout": 900.0}
    return exportkit.export(live.module, example, dynamic_shapes=live.dynamic_shapes, to=to, name=live.network.name, **options)


# Parity


def parity(file: Path, dtype: str, device: str) -> list[Row]:
    """Judges the artifacts of one network on a device, and again on the CPU."""
    with tempfile.TemporaryDirectory() as scratch:
        live = load(file, dtype)
        verdict = export(live, Path(scratch), device)
        elsewhere = _outcomes(verdict.folder) if verdict.folder and device != "cpu" else {}
        rows = []
        for made in verdict.made:
            report = made.reports[0] if made.reports else None
            row = {"network": live.network.name, "dtype": dtype, "format": made.format, "outcome": made.outcome, "why": made.refused}
            if report is not None:
                row |= _placed(report.facts) | {
                    "error": max((one["times_eager_rms"] for one in report.differences.values()), default=0.0),
                    "ways": {name: _way(told) for name, told in report.facts.get("ways", {}).items()},
                    "findings": [finding.text for finding in report.findings if finding.severity != "note"],
                }
            if made.artifact and made.good:
                row["strategy"] = made.artifact.strategy
                row["same bits"] = _repeats(verdict, made.artifact, device)
            if elsewhere.get(made.format, made.outcome) != made.outcome:
                row["on the CPU"] = elsewhere[made.format]
            rows.append(row)
        return rows


def _outcomes(folder: Path) -> dict[str, str]:
    import exportkit

    return {made.format: made.outcome for made in exportkit.check(folder).made}


def _placed(facts: Mapping[str, Any]) -> Row:
    from exportkit import placement

    counts = {provider: sum(operators.values()) for provider, operators in facts.get("placement", {}).items()}
    strangers = Counter(one["operator"] for one in facts.get("on_cpu", ()) if one["why"] != placement.CHEAPER)
    loops = sum(one["count"] for one in facts.get("copies_in_loops", ()))
    return {"nodes": counts, "without a kernel": dict(strangers), "copies at each step": loops} if counts else {}


def _way(told: Mapping[str, Any]) -> str | float:
    if "refused" in told:
        return f"refused: {told['refused']}"
    return max((one["times_eager_rms"] for one in told["differences"].values()), default=0.0)


def _repeats(verdict: Any, artifact: Any, device: str) -> bool:
    """Says whether ten runs of an artifact give the same bits."""
    from exportkit import judge, manifest, plugins, store
    from exportkit.spec import Runtime

    data = store.read_manifest(verdict.folder)
    network = manifest.read_network(data["network"])
    backend = next(name for name in plugins.names("backends") if artifact.format in plugins.load("backends", name).formats)
    session = judge.load(verdict.folder, artifact, network, backend, Runtime(device))
    trial = judge.golden_trial(verdict.folder, data["evidence"])
    case = next(one for one in trial.cases if one.domain == "inside" and one.name not in trial.raising)
    arrays = judge.read(trial.arrays, case.name)
    inputs = {spec.name: arrays[f"input/{spec.name}"] for spec in network.inputs}
    first, *others = [[output.tobytes() for output in session(inputs)] for _ in range(RUNS)]
    return all(one == first for one in others)


# Speed


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


# Roofline


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


# Results


def machine(device: str) -> Row:
    """Describes where this ran."""
    import onnxruntime
    import torch

    from exportkit import doctor

    found = doctor.examine()
    gpu = next((one["name"] for one in found["devices"] if one["kind"] == "cuda"), "none")
    driver = Path("/proc/driver/nvidia/version")
    versions = {"torch": torch.__version__, "onnxruntime": onnxruntime.__version__, "python": platform.python_version()}
    libraries = {name: one["version"] for name, one in ((found["cuda"] or {}).get("libraries", {})).items() if one["version"]}
    text = driver.read_text().splitlines()[0] if driver.exists() else "none"
    return {"device": device, "gpu": gpu, "driver": text, "processor": found["devices"][0]["name"], "versions": versions | libraries}


def table(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> list[str]:
    lines = [head, ["---"] * len(head), *rows]
    return [f"| {' | '.join(map(str, line))} |" for line in lines]


def page(data: Mapping[str, Any]) -> str:
    """Writes results as Markdown tables."""
    where = data["machine"]
    lines = [f"{where['gpu']}; {where['driver']}; " + ", ".join(f"{name} {version}" for name, version in where["versions"].items()) + "."]
    if data.get("parity"):
        head = ("network", "type", "format", "verdict", "error", "with TF32", "CUDA graph", "nodes on CUDA, CPU", "same bits", "notes")
        lines += ["", *table(head, [_parity_cells(row) for row in data["parity"]])]
    if data.get("speed"):
        head = ("network", "batch", *(f"{way}, ms" for way in (*TORCH, *ONNX)), "fastest", "where the ONNX is behind")
        lines += ["", *table(head, [_speed_cells(row) for row in data["speed"]])]
    if data.get("roofline"):
        head = ("network", "batch", "GFLOP", "MB", "least ms", "ms", "share")
        rows = [
            (one["network"], one["batch"], f"{one['operations'] / 1e9:.3g}", f"{one['bytes'] / 1e6:.3g}", f"{one['least ms']:.3g}",
             f"{one['ms']:.3g}", f"{one['share']:.0%}")
            for one in data["roofline"]
        ]  # fmt: skip
        lines += ["", *table(head, rows)]
    return "\n".join(lines)


def _parity_cells(row: Row) -> tuple[str, ...]:
    ways = {name: f"{told:.3g}x" if isinstance(told, float) else told for name, told in row.get("ways", {}).items()}
    nodes = row.get("nodes", {})
    placed = f"{nodes.get('CUDAExecutionProvider', 0)}, {nodes.get('CPUExecutionProvider', 0)}" if nodes else "-"
    notes = [row["why"], *row.get("findings", ()), *([f"{row['on the CPU']} on the CPU"] if "on the CPU" in row else [])]
    error = f"{row['error']:.3g}x" if "error" in row else "-"
    same = {True: "yes", False: "no"}.get(row.get("same bits"), "-")
    text = "; ".join(filter(None, notes)).replace("|", "/").replace("\n", " ")
    told = (ways.get("TF32", "-"), ways.get("CUDA graph", "-"), placed, same, text[:200])
    return row["network"], row["dtype"], row["format"], row["outcome"], error, *told


def _speed_cells(row: Row) -> tuple[str, ...]:
    times = {way: ms for way, ms in row["ms"].items() if isinstance(ms, float) and way not in row["wrong"]}
    cells = [row["ms"].get(way, "-") for way in (*TORCH, *ONNX)]
    shown = [f"{cell:.3g}" if isinstance(cell, float) else cell for cell in cells]
    wrong = [f"{way} wrong" for way in row["wrong"]]
    return (
        row["network"],
        str(row["batch"]),
        *shown,
        min(times, key=times.__getitem__, default="-"),
        "; ".join([*wrong, row.get("costs", "")]),
    )


def write(text: str, file: Path) -> None:
    """Puts the tables between the marks of a page."""
    old = file.read_text()
    before, rest = old.split(BEGIN)
    file.write_text(f"{before}{BEGIN}\n\n{text}\n\n{END}{rest.split(END)[1]}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("nets", nargs="*", type=Path)
    parser.add_argument("--only", default=",".join(PARTS))
    parser.add_argument("--dtypes", default="float32,float16,bfloat16")
    parser.add_argument("--batches", default="1,16,256")
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--limit", type=float, default=300.0)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--page", type=Path)
    asked = parser.parse_args()
    nets = asked.nets or sorted((ROOT / "layers" / "networks").glob("[a-z]*.py"))
    data: dict[str, Any] = {"machine": apart(asked.limit, machine, asked.device)}
    print(json.dumps(data["machine"]))
    parts, bad = asked.only.split(","), False
    if "parity" in parts:
        data["parity"] = []
        for file in nets:
            for dtype in asked.dtypes.split(","):
                found = apart(4 * asked.limit, parity, file, dtype, asked.device)
                rows = (
                    found
                    if isinstance(found, list)
                    else [{"network": file.stem, "dtype": dtype, "format": "-", "outcome": "-", "why": found}]
                )
                data["parity"] += rows
                print("\n".join(" ".join(_parity_cells(row)) for row in rows), flush=True)
        bad = any(not row["outcome"].startswith("passed") for row in data["parity"])
    if "speed" in parts or "roofline" in parts:
        with tempfile.TemporaryDirectory() as scratch:
            folders = {file: apart(4 * asked.limit, _published, file, Path(scratch)) for file in nets}
            made = {file: folder for file, folder in folders.items() if isinstance(folder, Path)}
            data["speed"] = []
            for file, folder in made.items():
                for row in speed(file, folder, [int(one) for one in asked.batches.split(",")], asked.device, asked.limit):
                    data["speed"].append(row)
                    print(" ".join(_speed_cells(row)), flush=True)
            if "roofline" in parts:
                data["roofline"] = roofline(made, data["speed"], asked.device, asked.limit)
        bad |= len(made) < len(nets) or any("costs" in row for row in data["speed"])
    if asked.json:
        asked.json.write_text(json.dumps(data, indent=1) + "\n")
    if asked.page:
        write(page(data), asked.page)
    return int(bad)


def _published(file: Path, to: Path) -> Path:
    """Exports a network on the CPU, and returns its folder."""
    verdict = export(load(file), to, "cpu")
    if verdict.folder is None or verdict.exit_code:
        raise RuntimeError(f"{file.name} is not proven: {verdict.outcome}")
    return Path(verdict.folder)


if __name__ == "__main__":
    sys.exit(main())
