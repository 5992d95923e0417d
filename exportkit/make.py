"""Makes artifacts in a fork of the holder: the captures are shared by the formats of one call."""

import contextlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from exportkit import plugins, sample, state
from exportkit.capture import Captures, Options
from exportkit.control_flow.select import has_control_flow
from exportkit.errors import ExportError, ExportKitError
from exportkit.load import Live
from exportkit.messages import Result
from exportkit.spec import Case, Network, Runtime
from exportkit.worker import report

_LIFTED = """\
# What torch.export captured in place of the modules named below; it is kept to be read, and nothing imports it.
# Beside a line stands the line of the network that it comes from. `loops`, `branches`, `lists`, `scalars` and `indexing`
# are parts of exportkit.control_flow; `aten` is torch.ops.aten."""
_SEED, _DRAWS = 20_000, ("like", "like", "resampled", "resampled")


def strategies(name: str) -> tuple[str, ...]:
    """Lists a format's strategies in their order."""
    return tuple(strategy for strategy, _ in plugins.load("formats", name).strategies)


def make(
    live: Live, attempts: Sequence[tuple[str, int, Path]], network: Network, opset: int | None, target: str | None, runtime: Runtime
) -> dict[str, Result]:
    """Makes each attempt's artifact; one that fails leaves its error in the artifact's place.

    Args:
        attempts: (format, number of the strategy, folder for its files).
        network: with the dimensions that shall vary as its symbols.
        opset: the ONNX opset to write, None for the exporter's own.
        target: "onnxruntime==1.20", the oldest runtime that must load the file.
        runtime: where the artifact will run.
    """
    captures, options = prepare(live, network, opset, target, runtime)
    branching = has_control_flow(live.module)
    made: dict[str, Result] = {}
    for name, place, folder in attempts:
        plugin, names = plugins.load("formats", name), strategies(name)
        report(f"exporting {name} ({names[place]})")
        folder.mkdir(parents=True, exist_ok=True)
        try:
            with torch.no_grad():
                made[name] = Result(plugin.strategies[place][1](captures, folder, options), names, branching)
        except ExportKitError as error:
            made[name] = Result(error, names, branching)
        except Exception as error:  # noqa: BLE001 - exporters raise whatever they like; the next strategy is taken
            made[name] = Result(ExportError(_deepest(error)), names, branching)
    sides = captures.sides()
    return {name: replace(one, sides=sides) for name, one in made.items()}


def keep_lifted(live: Live, file: Path) -> None:
    """Writes the source that the network's loops and branches became: one `forward` a module, the user's lines beside it."""
    from exportkit.control_flow import lifted

    parts = [
        f"# {name or 'the network'}\n\n{part.lifted_source}"
        for name, part in lifted(live.module).named_modules()
        if hasattr(part, "lifted_source")
    ]
    file.write_text(f"{_LIFTED}\n\n\n" + "\n\n".join(parts))


def prepare(live: Live, network: Network, opset: int | None, target: str | None, runtime: Runtime) -> tuple[Captures, Options]:
    """Readies the captures of a network: at the same sizes and on the same values whenever it is asked."""
    torch.set_num_threads(1)
    live.network = network
    captures = Captures(live, _capture_inputs(live, network), network.symbols, tuple(spec.name for spec in network.outputs))
    return captures, Options(opset, live.onnx_translations, target, runtime)


def _capture_inputs(live: Live, network: Network) -> dict[str, torch.Tensor]:
    """Draws inputs that eager takes; where it takes none of them, the example itself serves: no artifact keeps a value of it."""
    sizes = sample.sizes_for_capture(network.symbols)
    for attempt, kind in enumerate(_DRAWS):
        inputs = sample.draw(live, network.symbols, Case("capture", sizes, kind, "inside", _SEED + attempt))
        with contextlib.suppress(Exception), torch.no_grad(), state.preserved(live.module):
            live.call(inputs)
            return inputs
    return live.example


def _deepest(error: BaseException) -> str:
    """Returns the first line of the exception that the others were raised from: exporters wrap it in advice to themselves."""
    while error.__cause__ is not None:
        error = error.__cause__
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0][:300] if text else ''}"
