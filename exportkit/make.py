"""Makes artifacts in a fork of the holder: the captures are shared by the formats of one call."""

from collections.abc import Sequence
from pathlib import Path

import torch

from exportkit import plugins, sample
from exportkit.capture import Captures, Options
from exportkit.errors import ExportError, ExportKitError
from exportkit.load import Live
from exportkit.spec import Artifact, Case, Network
from exportkit.worker import report

_SEED = 20_000


def strategies(formats: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Lists each format's strategies in their order."""
    return {name: tuple(strategy for strategy, _ in plugins.load("formats", name).strategies) for name in formats}


def make(
    live: Live, attempts: Sequence[tuple[str, str, Path]], network: Network, opset: int | None, runtime: str | None, ort_library: str | None
) -> dict[str, Artifact | ExportKitError]:
    """Makes each attempt's artifact; one that fails leaves its error in the artifact's place.

    Args:
        attempts: (format, strategy, folder for its files).
        network: with the dimensions that shall vary as its symbols.
        opset: the ONNX opset to write, None for the exporter's own.
        runtime: "onnxruntime==1.20", the oldest runtime that must load the file.
    """
    torch.set_num_threads(1)
    live.network = network
    case = Case("capture", sample.sizes_for_capture(network.symbols), "like", "inside", _SEED)
    inputs = sample.draw(live, network.symbols, case)
    names = tuple(spec.name for spec in network.outputs)
    captures = Captures(live, inputs, network.symbols, names)
    options = Options(opset, live.onnx_translations, runtime, bool(ort_library))
    made: dict[str, Artifact | ExportKitError] = {}
    for name, strategy, folder in attempts:
        report(f"exporting {name} ({strategy})")
        plugin = plugins.load("formats", name)
        folder.mkdir(parents=True, exist_ok=True)
        try:
            with torch.no_grad():
                made[name] = dict(plugin.strategies)[strategy](captures, folder, options)
        except ExportKitError as error:
            made[name] = error
        except Exception as error:  # noqa: BLE001 - exporters raise whatever they like; the next strategy is taken
            first = str(error).strip().splitlines()
            made[name] = ExportError(f"{type(error).__name__}: {first[0] if first else ''}")
    return made

