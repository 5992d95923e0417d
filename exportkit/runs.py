"""Runs of eager PyTorch: under a seed, moved by an ulp, and how far two of them lie apart."""

import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from exportkit import evidence, perturb, state
from exportkit.load import Live
from exportkit.results import flatten, to_numpy
from exportkit.spec import Tree

Arrays = dict[str, NDArray[Any]]


def outputs(live: Live, inputs: Mapping[str, torch.Tensor], seed: int) -> tuple[Tree, Arrays]:
    """Runs forward on copies of the inputs, every generator seeded."""
    torch.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - the generator that a network would use
    with torch.no_grad():
        return named(live, live.call(inputs))


def named(live: Live, result: Any) -> tuple[Tree, Arrays]:
    """Takes apart what forward returned."""
    tree, leaves = flatten(result, frozenset(spec.name for spec in live.network.inputs))
    return tree, {name: to_numpy(value) for name, value in leaves.items()}


def perturbed(live: Live, inputs: Mapping[str, torch.Tensor], seed: int, bit: int) -> Arrays | None:
    """Runs forward with inputs and weights moved by an ulp (bit 0) or two (bit 1); None where it refuses them."""
    try:
        with perturb.weights(live.module, 7919 * (seed + 1), bit):
            return outputs(live, perturb.inputs(inputs, 104729 * (seed + 1), bit), seed=4)[1]
    except Exception:  # noqa: BLE001 - a network that refuses a perturbed input (a strict range check) just gives no evidence there
        return None


def close(oracle: NDArray[Any], eager: NDArray[Any], *, narrow: bool) -> bool:
    """Says whether a run lies so near to the oracle that it is evidence."""
    if oracle.shape != eager.shape:
        return False
    error, size = gap(oracle, eager)
    return error <= evidence.cap(str(eager.dtype), narrow=narrow) * size


def gap(oracle: NDArray[Any], run: NDArray[Any]) -> tuple[float, float]:
    """Returns the root mean square error of a run, and of the values, over the elements that are finite in both."""
    a, b = evidence.widen(oracle), evidence.widen(run)
    both = np.isfinite(a) & np.isfinite(b)
    if not both.any():
        return 0.0, 0.0
    return float(np.sqrt(np.mean((b[both] - a[both]) ** 2))), float(np.sqrt(np.mean(a[both] ** 2)))


def equal(a: NDArray[Any], b: NDArray[Any]) -> bool:
    """Compares bytes: a network file may have replaced what numpy compares with."""
    return a.shape == b.shape and a.dtype == b.dtype and a.tobytes() == b.tobytes()


def estimate(live: Live) -> float:
    """Estimates the seconds of one eager run from its operations, not from the clock."""

    class Count(TorchDispatchMode):
        operations = 0
        elements = 0

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            result = func(*args, **(kwargs or {}))
            self.operations += 1
            self.elements += result.numel() if isinstance(result, torch.Tensor) else 0
            return result

    weight = sum(p.numel() * p.element_size() for p in live.module.parameters())
    flops, count = FlopCounterMode(display=False), Count()
    try:
        with torch.no_grad(), state.preserved(live.module), flops, count:
            live.call(live.example)
    except Exception:  # noqa: BLE001 - a network that no dispatch mode can watch is taken for a cheap one
        return weight / 4e9
    return count.operations * 1e-5 + count.elements * 1e-9 + flops.get_total_flops() / 2e10 + weight / 4e9
