"""Runs ONNX on onnxruntime, and makes sure that the provider asked for is the one that ran. Needs no torch."""

import contextlib
import ctypes
import io
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from exportkit import placement
from exportkit.errors import RunError
from exportkit.plugins import needs
from exportkit.spec import Artifact, Network, Runtime, Session
from exportkit.ways import CUDA_GRAPH, TF32

Array = NDArray[Any]

_WHO = "backend onnxruntime"
_EXACT = {"use_tf32": "0"}  # TF32, the CUDA provider's default, is 1e-3 off the reference
_LARGE = 512 << 20  # bytes of weights from which a second copy is worth avoiding

# onnxruntime's name of a type that numpy lacks -> ml_dtypes' name, the integers of its bits, and ONNX's number.
UNKNOWN_TO_NUMPY: dict[str, tuple[str, Any, int]] = {
    "tensor(bfloat16)": ("bfloat16", np.uint16, 16),
    "tensor(float8e4m3fn)": ("float8_e4m3fn", np.uint8, 17),
    "tensor(float8e4m3fnuz)": ("float8_e4m3fnuz", np.uint8, 18),
    "tensor(float8e5m2)": ("float8_e5m2", np.uint8, 19),
    "tensor(float8e5m2fnuz)": ("float8_e5m2fnuz", np.uint8, 20),
}

_CODE = re.compile(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ")
_FILE = re.compile(r"^(?:Load model from \S+ failed: ?)+")  # a staging folder's name tells nobody anything
_RUNNING = re.compile(r".*while running (\S+) node\. Name:'([^']*)' Status Message: (.*)", re.DOTALL)
_NO_KERNEL = re.compile(r"Could not find an implementation for (\S+?)\(\d+\) node with name '([^']*)'")
_NO_OPERATOR = re.compile(r"(?:Fatal error: |No Op registered for )(\S+?)(?:\(-?\d+\))?(?: is not a registered| with domain)")
_TYPES = re.compile(r"Optype \((\S+?)\) .*in node \(([^)]*)\)")
# Where in onnxruntime's source: file, line, and the C++ function with its types.
_SOURCE = re.compile(
    r"(?:/\S*onnxruntime/)?[\w/]+\.(?:h|cc|cu)h?:\d+ "
    r"(?:(?:[\w:<>*&]+ )*onnxruntime::[^()]*\((?:[^()]|\([^()]*\))*\)(?: const)?(?: \[with [^\]]*\])? ?)?"
)


@dataclass(frozen=True)
class OrtSession:
    """A loaded .onnx.

    Attributes:
        facts: the providers, how many nodes each one took, versions; plain JSON values.
    """

    session: Any
    network: Network
    device: str
    facts: Mapping[str, Any]

    def __call__(self, inputs: Mapping[str, Array]) -> list[Array]:
        """Runs one case.

        Returns:
            One array for each of `network.outputs`.

        Raises:
            RunError: it does not run on these inputs.
        """
        names = [spec.name for spec in self.network.outputs]
        with translated():
            feeds = {one.name: to_value(inputs[one.name], one.type) for one in self.session.get_inputs()}
            if self.device == "cuda":
                return [to_array(value) for value in run_bound(self.session, feeds, names, self.device)]
            return [to_array(value) for value in self.session.run_with_ort_values(names, feeds)]


@dataclass(frozen=True)
class GraphSession:
    """A loaded .onnx of fixed shapes, captured as a CUDA graph by its first run: each further one launches that at once.

    Attributes:
        feeds, results: the values that the graph reads and writes, on the GPU, where they stay.
        types: numpy's element type of each.
    """

    session: Any
    network: Network
    feeds: Mapping[str, Any]
    results: Sequence[Any]
    types: Mapping[str, Any]
    binding: Any
    facts: Mapping[str, Any]

    def __call__(self, inputs: Mapping[str, Array]) -> list[Array]:
        """Runs one case.

        Raises:
            RunError: it does not run on these inputs.
        """
        with translated():
            for name, value in self.feeds.items():
                array = np.array(inputs[name], order="C")
                if list(array.shape) != list(value.shape()) or array.dtype != self.types[name]:
                    raise RunError(f"takes {name} as {self.types[name]}{list(value.shape())}, not as {array.dtype}{list(array.shape)}")
                value.update_inplace(array)
            self.session.run_with_iobinding(self.binding, _silent())
            return [value.numpy() for value in self.results]


@dataclass(frozen=True, slots=True)
class OnnxRuntime:
    """`onnxruntime.InferenceSession` with the optimisations that serving has, on one thread.

    Attributes:
        ort_library: a library of custom operators to register; an artifact never brings native code along.
    """

    formats: tuple[str, ...] = ("onnx",)
    ort_library: str | None = None

    def load(self, folder: Path, artifact: Artifact, network: Network, device: str) -> OrtSession:
        """Loads an .onnx; external data lies beside it.

        Raises:
            PluginError: onnxruntime is not installed.
            RunError: the file does not load, its inputs or outputs are not the network's, or the device is not the one that runs it.
        """
        with needs(_WHO):
            import onnxruntime
        file = folder / artifact.files[0]
        session, told, large = self._open(folder, artifact, device)
        _match("input", [one.name for one in session.get_inputs()], [spec.name for spec in network.inputs])
        _match("output", [one.name for one in session.get_outputs()], [spec.name for spec in network.outputs])
        counts = placement.counts(session)
        facts = {"providers": session.get_providers(), "placement": counts, "versions": {"onnxruntime": onnxruntime.__version__}}
        if device == "cuda":
            facts |= {"tf32": False, **placement.explain(session, told, file, network.source.file)}
            _refuse_none(counts, facts)
        if large:
            facts["left_out"] = "constant folding and prepacking of weights, which hold a second copy of them"
        return OrtSession(session, network, device, facts)

    def ways(self, folder: Path, artifact: Artifact, network: Network, device: str) -> Mapping[str, Callable[[], Session]]:
        """Lists how else deployments run an .onnx on CUDA: with TF32, the provider's default, and of fixed shapes as a CUDA graph."""
        if device == "cpu":
            return {}

        def opened(**changed: str) -> Any:
            return self._open(folder, artifact, device, **changed)[0]

        ways: dict[str, Callable[[], Session]] = {TF32: lambda: OrtSession(opened(use_tf32="1"), network, device, {})}
        if _is_fixed(artifact):
            ways[CUDA_GRAPH] = lambda: _captured(opened(enable_cuda_graph="1"), network)
        return ways

    def _open(self, folder: Path, artifact: Artifact, device: str, **changed: str) -> tuple[Any, list[str], bool]:
        """Opens a session; also returns what it logged on CUDA, and whether its weights are large.

        Args:
            changed: options of the CUDA provider.
        """
        import onnxruntime

        large = sum((folder / name).stat().st_size for name in artifact.files) > _LARGE
        options = session_options(onnxruntime, large=large)
        if self.ort_library:
            _register(options, Path(self.ort_library))
        elif needed := artifact.facts.get("ort_library"):
            raise RunError(f"needs {needed}, the library of its custom operators", todo="Name it with --ort-library FILE.")
        left_out = ["ConstantFolding"] if large else None  # a transposed weight would be folded into a second copy
        told: list[str] = []
        with translated(), contextlib.redirect_stdout(io.StringIO()) as notice, contextlib.ExitStack() as stack:
            if device == "cuda":
                onnxruntime.preload_dlls()
                options.log_severity_level = placement.INFO
                # Weights by themselves: the arena that they would share with values grows to powers of two, up to twice their size.
                options.add_session_config_entry("session.use_device_allocator_for_initializers", "1")
                told = stack.enter_context(placement.logged())
            file = str(folder / artifact.files[0])
            session = onnxruntime.InferenceSession(file, options, providers=_providers(device, **changed), disabled_optimizers=left_out)
        if device == "cuda":
            _confirm(session, notice.getvalue())
        return session, told, large


def bare_session(model: bytes | Path, runtime: Runtime, *, optimised: bool, save: Path | None = None) -> Any:
    """Opens a model as it is, whatever its inputs and outputs are.

    Args:
        optimised: with the optimisations that serving has, or with none.
        save: where onnxruntime shall write the graph that it made.

    Raises:
        RunError: the model does not load.
    """
    import onnxruntime

    options = session_options(onnxruntime, large=False)
    if not optimised:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    if save:
        options.optimized_model_filepath = str(save)
    if runtime.ort_library:
        _register(options, Path(runtime.ort_library))
    with translated(), contextlib.redirect_stdout(io.StringIO()):
        if runtime.device == "cuda":
            onnxruntime.preload_dlls()
        source = model if isinstance(model, bytes) else str(model)
        return onnxruntime.InferenceSession(source, options, providers=_providers(runtime.device))


def run_session(session: Any, feeds: Mapping[str, Array], outputs: Sequence[str]) -> dict[str, Array]:
    """Runs a session on arrays by name; more than its inputs may be given.

    Raises:
        RunError: it does not run.
    """
    with translated():
        values = {one.name: to_value(feeds[one.name], one.type) for one in session.get_inputs()}
        return {name: to_array(value) for name, value in zip(outputs, session.run_with_ort_values(list(outputs), values), strict=True)}


def run_bound(session: Any, values: Mapping[str, Any], outputs: Sequence[str], device: str, options: Any = None) -> list[Any]:
    """Runs a session with inputs and outputs bound, as serving does: results stay on the device until they are read.

    Args:
        values: onnxruntime's OrtValues by input name.
        options: onnxruntime's RunOptions; None for silent ones.

    Returns:
        An OrtValue for each output; one of an element type that numpy lacks, which is read by its address, lies in the host's memory.
    """
    types = {one.name: one.type for one in session.get_outputs()}
    binding = session.io_binding()
    for name, value in values.items():
        binding.bind_ortvalue_input(name, value)
    for name in outputs:
        binding.bind_output(name, "cpu" if types[name] in UNKNOWN_TO_NUMPY else device)
    session.run_with_iobinding(binding, _silent() if options is None else options)
    found: list[Any] = binding.get_outputs()
    return found


def _silent() -> Any:
    """Makes options of a run that logs nothing: the session logs, for its placement."""
    import onnxruntime

    options = onnxruntime.RunOptions()
    options.log_severity_level = 4
    return options


def devices() -> tuple[str, ...]:
    """Lists the devices that onnxruntime really has here: "cpu", and "cuda" where there is a GPU and its provider.

    Raises:
        PluginError: onnxruntime is not installed.
    """
    with needs(_WHO):
        import onnxruntime
    found = {device.ep_name for device in onnxruntime.get_ep_devices()}
    return ("cpu", "cuda") if placement.CUDA in found else ("cpu",)


def session_options(onnxruntime: Any, *, large: bool) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4  # what fails is raised with the same words; printed, it tears the lines of a log that others write to
    options.use_deterministic_compute = True
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    if large:
        # The CPU provider copies a MatMul's weights into its own layout: 2.1 GiB for 1 GiB of them, 1.05 GiB without (1.31).
        options.add_session_config_entry("session.disable_prepacking", "1")
    return options


def _register(options: Any, library: Path) -> None:
    if not library.exists():
        raise RunError("the library of custom operators is missing", where=str(library), todo="Name it with --ort-library FILE.")
    with translated():
        options.register_custom_ops_library(str(library))


def _providers(device: str, **changed: str) -> list[Any]:
    return [placement.CPU] if device == "cpu" else [(placement.CUDA, {**_EXACT, **changed}), placement.CPU]


def _is_fixed(artifact: Artifact) -> bool:
    """Says whether all shapes are numbers and all element types numpy's: only then do values keep their place from run to run."""
    exotic = {name for name, _, _ in UNKNOWN_TO_NUMPY.values()}
    ends = (*artifact.inputs, *artifact.outputs)
    return all(spec.dtype not in exotic and all(isinstance(size, int) for size in spec.shape) for spec in ends)


def _captured(session: Any, network: Network) -> GraphSession:
    import onnxruntime

    types = {spec.name: np.dtype(spec.dtype) for spec in (*network.inputs, *network.outputs)}

    def place(one: Any) -> Any:
        return onnxruntime.OrtValue.ortvalue_from_shape_and_type(one.shape, types[one.name].type, "cuda")

    with translated():
        feeds = {one.name: place(one) for one in session.get_inputs()}
        results = {one.name: place(one) for one in session.get_outputs()}
        binding = session.io_binding()
        for name, value in feeds.items():
            binding.bind_ortvalue_input(name, value)
        for name, value in results.items():
            binding.bind_ortvalue_output(name, value)
    return GraphSession(session, network, feeds, [results[spec.name] for spec in network.outputs], types, binding, {})


def _match(what: str, graph: list[str], network: list[str]) -> None:
    for name in graph:
        if name not in network:
            raise RunError(f"the graph has an {what} {name} that the network lacks; the network's are {', '.join(network) or 'none'}")
    for name in network:
        if name not in graph:
            raise RunError(f"the graph lacks the network's {what} {name}; it has {', '.join(graph) or 'none'}")


def _confirm(session: Any, notice: str) -> None:
    """Makes sure that CUDA is what runs: onnxruntime goes on without it, and prints a notice."""
    ran = ", ".join(session.get_providers())
    if placement.CUDA not in session.get_providers():
        why = next((line.strip() for line in notice.splitlines() if line.startswith("Failed to load")), "")
        what = f"the device cuda was asked for, but onnxruntime would run this on {ran}"
        raise RunError(f"{what} ({why})" if why else what, todo="Install CUDA and cuDNN for this onnxruntime, or check on the CPU.")


def _refuse_none(counts: Mapping[str, Mapping[str, int]], facts: Mapping[str, Any]) -> None:
    """Refuses a model of which CUDA runs no node, whatever is allowed."""
    if counts and placement.CUDA not in counts:
        found = next(placement.findings(facts, allowed=True), None)
        what = "the device cuda was asked for, but onnxruntime placed every node on the CPU" + (f": {found.text}" if found else "")
        raise RunError(what, where=found.where if found else "", todo="Check this network on the CPU.")


def to_value(array: Array, kind: str) -> Any:
    import onnxruntime

    array = np.array(array, order="C")
    if kind not in UNKNOWN_TO_NUMPY:
        return onnxruntime.OrtValue.ortvalue_from_numpy(array)
    _, bits, number = UNKNOWN_TO_NUMPY[kind]
    return onnxruntime.OrtValue.ortvalue_from_numpy_with_onnx_type(array.view(bits), number)


def to_array(value: Any) -> Array:
    kind = value.data_type()
    if kind not in UNKNOWN_TO_NUMPY:
        array: Array = value.numpy()
        return array
    import ml_dtypes

    # onnxruntime 1.31 hands out the bytes of these types only by address.
    data = ctypes.string_at(value.data_ptr(), value.tensor_size_in_bytes())
    return np.frombuffer(data, getattr(ml_dtypes, UNKNOWN_TO_NUMPY[kind][0])).reshape(value.shape()).copy()


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """Turns onnxruntime's exceptions into one line that names the node and its operator."""
    try:
        yield
    except RunError:
        raise
    except Exception as error:
        raise RunError(_explain(str(error))) from error


def _explain(text: str) -> str:
    text = _FILE.sub("", _CODE.sub("", text))
    if found := _RUNNING.fullmatch(text):
        operator, node, why = found.groups()
        return f"onnxruntime stops at node {node or 'without a name'} ({operator}): {_shorten(why)}"
    if found := _NO_KERNEL.search(text):
        operator, node = found.groups()
        return f"onnxruntime has no implementation of {operator} for the element types of node {node or 'without a name'}"
    if found := _NO_OPERATOR.search(text):
        return f"onnxruntime does not know the operator {found[1]}: it needs the library that brings it"
    if found := _TYPES.search(text):
        return f"onnxruntime refuses node {found[2]} ({found[1]}): {_shorten(text)}"
    return f"onnxruntime: {_shorten(text)}"


def _shorten(text: str) -> str:
    return " ".join(_SOURCE.sub("", text).split())[:300]


PLUGIN = OnnxRuntime()
