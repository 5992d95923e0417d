"""What the contract asks of a layer: how to build it, how to draw its inputs, and what it must compute."""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

Inputs = tuple[Tensor, ...]


@dataclass(frozen=True)
class Subject:
    """One method of one layer under the contract.

    Attributes:
        name: of the test, and of the artifacts.
        build: makes the layer; its parameters are drawn anew by `network`.
        draw: inputs at sizes, float32 where they are floats, from torch's generator.
        oracle: (layer, *inputs), all in float64, to what the method must return; written without the layer's code.
        sizes: what `draw` takes; the first is small (gradients are checked there) and is the export's example.
        edges: sizes with a zero or a one.
        dynamic: the axes that must vary in an artifact, by input, and what they are.
        wrong: (argument, inputs to inputs that must be refused with that argument's name).
        method: which method is meant.
        differentiable: whether outputs hang smoothly on float inputs and parameters.
        extreme: what floats are multiplied with where gradients must stay finite.
        slack: rounding errors that a 16-bit output may be off, in units of the dtype's epsilon times the largest output.
    """

    name: str
    build: Callable[[], nn.Module]
    draw: Callable[..., Inputs]
    oracle: Callable[..., Any]
    sizes: tuple[Mapping[str, int], ...]
    edges: tuple[Mapping[str, int], ...]
    dynamic: Mapping[str, Mapping[int, str]]
    wrong: tuple[tuple[str, Callable[[Inputs], Inputs]], ...]
    method: str = "forward"
    differentiable: bool = True
    extreme: float = 1e4
    slack: float = 8.0

    def network(self) -> nn.Module:
        """Builds the layer with all parameters drawn at random: none is at a starting value that hides its part."""
        torch.manual_seed(11)
        layer = self.build().eval()
        with torch.no_grad():
            for parameter in layer.parameters():
                parameter.normal_(0, 0.5)
        return layer

    def inputs(self, sizes: Mapping[str, int], seed: int = 0) -> Inputs:
        torch.manual_seed(seed)
        return self.draw(**sizes)

    def call(self, layer: Any, inputs: Inputs) -> list[Tensor]:
        """Runs the method and returns its outputs as a list."""
        return flat(getattr(layer, self.method)(*inputs))


def flat(outputs: Any) -> list[Tensor]:
    if isinstance(outputs, tuple | list):
        return [one for part in outputs for one in flat(part)]
    return [outputs]


def cast(layer: nn.Module, inputs: Inputs, dtype: torch.dtype) -> tuple[nn.Module, Inputs]:
    """Returns layer and inputs with their floats in another dtype."""
    return copy.deepcopy(layer).to(dtype), tuple(one.to(dtype) if one.is_floating_point() else one for one in inputs)


def swap(position: int, change: Callable[[Tensor], Tensor]) -> Callable[[Inputs], Inputs]:
    """Changes one of the inputs."""
    return lambda inputs: (*inputs[:position], change(inputs[position]), *inputs[position + 1 :])


def ragged(batch: int, time: int, low: int = 0) -> Tensor:
    """Draws a mask that is on for the first steps of each row: all of the first row, `low` of the last, `low` or more of the others."""
    low = min(low, time)
    lengths = torch.randint(low, time + 1, (batch, 1))
    lengths[-1:] = low
    lengths[:1] = time
    return torch.arange(time) < lengths
