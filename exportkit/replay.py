"""Replays a folder's golden cases against a server: in a child, by the limits that `check` has for artifacts."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

from exportkit import exchange, golden, judge
from exportkit.elements import V2
from exportkit.errors import RunError
from exportkit.exchange import Place
from exportkit.messages import Trial
from exportkit.spec import Artifact, Finding, Network, Report, TensorSpec
from exportkit.v2client import Remote

_ROOM = 1 << 20  # bytes of an answer besides its values
_LONGEST = 32  # bytes of one value: a float64 in JSON takes at most 25


def judge_server(folder: Path, artifact: Artifact, network: Network, place: Place, data: Mapping[str, Any], seconds: float) -> Report:
    """Judges what a server answers to the golden cases.

    Args:
        artifact: what the server should serve; its signature says which dimensions it fixes.
        data: the manifest's "evidence".
        seconds: wall time that one answer may take.

    Raises:
        RunError: nobody listens there, the server does not say what the model is, or the protocol lacks an element type.
    """
    for spec in (*network.inputs, *network.outputs):
        if spec.dtype not in V2:
            raise RunError(f"cannot be asked: the Open Inference Protocol has no name for {spec.dtype}, the type of {spec.name}")
    trial = judge.golden_trial(folder, data)
    path = place.path if "/v2/models/" in place.path else f"{place.path}/v2/models/{quote(network.name, safe='')}"
    remote = Remote(place, path, network, seconds, _ROOM + _LONGEST * _most_values(trial))
    metadata = remote.describe()
    found = judge.judge(remote, artifact, network, "server", place.name, trial, may_refuse=False)
    return replace(found, findings=(*_compare(metadata, network), *found.findings))


def _most_values(trial: Trial) -> int:
    """Counts the values of the case whose outputs have most."""
    reader = golden.Reader(trial.arrays)
    keys = set(reader.names())
    outputs = {case.name: [key for key in keys if key.startswith(f"{case.name}/eager/")] for case in trial.cases}
    return max((sum(reader.read(key).size for key in some) for some in outputs.values()), default=0)


def _compare(metadata: Mapping[str, Any], network: Network) -> Iterator[Finding]:
    """Tells where the signature that the server states is not the network's."""
    for kind, specs in (("inputs", network.inputs), ("outputs", network.outputs)):
        told = metadata.get(kind)
        stated = {one.get("name"): one for one in told if isinstance(one, dict)} if isinstance(told, list) else {}
        for spec in specs:
            one = stated.get(spec.name)
            if one is None:
                listed = exchange.words(", ".join(map(str, stated))) or "none"
                yield Finding("error", "another-signature", f"the server's model has no {kind[:-1]} {spec.name}; its {kind} are {listed}")
            elif one.get("datatype") != V2[spec.dtype] or not _fits(one.get("shape"), spec):
                says = exchange.words(f"{one.get('datatype')}{one.get('shape')}")
                text = f"the server's {kind[:-1]} {spec.name} is {says}, the network's {V2[spec.dtype]}{_shape(spec)}"
                yield Finding("error", "another-signature", text)


def _fits(shape: Any, spec: TensorSpec) -> bool:
    """Compares the rank, and the sizes that both sides fix; the cases show whether one that varies is taken."""
    if not isinstance(shape, list) or len(shape) != len(spec.shape):
        return False
    return all(ours == theirs for ours, theirs in zip(_shape(spec), shape, strict=True) if -1 not in (ours, theirs))


def _shape(spec: TensorSpec) -> list[int]:
    return [size if isinstance(size, int) else -1 for size in spec.shape]
