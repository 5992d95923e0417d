"""The layers that benchmarks/layer_speed.py times, each at the size of one short request and at that of a batch of long ones."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from layers import basic, dynamic_programming, image, sequence, text

Sizes = Mapping[str, int]
# What varies between requests, and how large it is in the example that a layer is exported with. All other sizes are the layer's.
EXAMPLE = {"batch": 2, "time": 7, "past": 5, "height": 6, "width": 7, "rows": 5, "columns": 6, "labels": 3, "queries": 5, "keys": 6}


@dataclass(frozen=True, slots=True)
class Case:
    """One method of one layer at two sizes.

    Attributes:
        name: of the layer, and of the method where it is not forward.
        build: makes the layer from the sizes that do not vary.
        draw: makes the inputs from all sizes.
    """

    name: str
    build: Callable[..., nn.Module]
    draw: Callable[..., tuple[Tensor, ...]]
    small: Sizes
    large: Sizes

    @property
    def method(self) -> str:
        return self.name.partition(".")[2] or "forward"

    def make(self, sizes: Sizes) -> tuple[nn.Module, tuple[Tensor, ...]]:
        """Makes the layer and its inputs, the same in every process."""
        torch.manual_seed(0)
        layer = self.build(**fixed(sizes)).eval().requires_grad_(requires_grad=False)
        for parameter in layer.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)  # none is at a zero that hides its part
        return layer, self.draw(**sizes)


def varies(case: Case, sizes: Sizes) -> tuple[dict[int, Any], ...]:
    """Says which axes of the inputs vary, and which ones together, as torch.export takes it."""
    plain = case.make(example(sizes))[1]
    axes: tuple[dict[int, Any], ...] = tuple({} for _ in plain)
    for name in sizes.keys() & EXAMPLE.keys():
        longer = case.make({**example(sizes), name: EXAMPLE[name] + 1})[1]
        for found, one, other in zip(axes, plain, longer, strict=True):
            found.update({axis: torch.export.Dim(name) for axis in range(one.dim()) if one.shape[axis] != other.shape[axis]})
    return axes


def fixed(sizes: Sizes) -> dict[str, int]:
    """Picks the sizes that a layer is built with."""
    return {name: size for name, size in sizes.items() if name not in EXAMPLE}


def example(sizes: Sizes, longer: int = 0) -> dict[str, int]:
    """Makes the sizes of an export's example, all that varies longer by `longer`."""
    return {name: EXAMPLE[name] + longer if name in EXAMPLE else size for name, size in sizes.items()}


def ragged(batch: int, time: int) -> Tensor:
    """Draws a mask of sequences that are at least half as long as the longest one, which fills it."""
    lengths = torch.randint((time + 1) // 2, time + 1, (batch, 1))
    lengths[0] = time
    return torch.arange(time) < lengths


def pixels(batch: int, channels: int, height: int, width: int, **_: int) -> tuple[Tensor, ...]:
    return (torch.randn(batch, channels, height, width),)


def deformed(batch: int, channels: int, height: int, width: int) -> tuple[Tensor, ...]:
    shifts, mask = torch.randn(batch, 18, height, width), torch.rand(batch, 9, height, width)
    return torch.randn(batch, channels, height, width), shifts, mask


def vectors(batch: int, time: int, features: int, **_: int) -> tuple[Tensor, ...]:
    return (torch.randn(batch, time, features),)


def with_mask(batch: int, time: int, features: int, **_: int) -> tuple[Tensor, ...]:
    return torch.randn(batch, time, features), ragged(batch, time)


def with_state(batch: int, time: int, features: int) -> tuple[Tensor, ...]:
    return torch.randn(batch, time, features), torch.zeros(batch, features)


def attention_step(batch: int, past: int, features: int, heads: int, key_heads: int) -> tuple[Tensor, ...]:
    caches = torch.randn(2, batch, key_heads, past, features // heads)
    return torch.randn(batch, 1, features), torch.ones(batch, 1, dtype=torch.bool), caches[0], caches[1], ragged(batch, past).flip(1)


def images_in_time(batch: int, time: int, channels: int, hidden: int, height: int, width: int) -> tuple[Tensor, ...]:
    states = torch.zeros(2, batch, hidden, height, width)
    return torch.randn(batch, time, channels, height, width), states[0], states[1]


def emissions(batch: int, time: int, **classes: int) -> tuple[Tensor, ...]:
    return torch.randn(batch, time, next(iter(classes.values()))), ragged(batch, time)


def tagged(batch: int, time: int, tags: int) -> tuple[Tensor, ...]:
    return torch.randn(batch, time, tags), torch.randint(0, tags, (batch, time)), ragged(batch, time)


def log_probs(batch: int, time: int, classes: int, **_: int) -> tuple[Tensor, ...]:
    return torch.randn(batch, time, classes).log_softmax(2), ragged(batch, time)


def ctc(batch: int, time: int, classes: int, labels: int) -> tuple[Tensor, ...]:
    scores, steps = log_probs(batch, time, classes)
    return scores, torch.randint(1, classes, (batch, labels)), steps, ragged(batch, labels)


def masks(batch: int, rows: int, columns: int) -> tuple[Tensor, ...]:
    return ragged(batch, rows), ragged(batch, columns)


def table(batch: int, rows: int, columns: int) -> tuple[Tensor, ...]:
    return torch.randn(batch, rows, columns), *masks(batch, rows, columns)


def token_pairs(batch: int, rows: int, columns: int) -> tuple[Tensor, ...]:
    return torch.randint(0, 30, (batch, rows)), torch.randint(0, 30, (batch, columns)), *masks(batch, rows, columns)


def transport(batch: int, rows: int, columns: int) -> tuple[Tensor, ...]:
    shares = [torch.rand(batch, size) + 0.2 for size in (rows, columns)]
    return torch.rand(batch, rows, columns), *(one / one.sum(1, keepdim=True) for one in shares)


IMAGE, IMAGES = {"batch": 1, "channels": 64, "height": 14, "width": 14}, {"batch": 8, "channels": 192, "height": 56, "width": 56}
TEXT, TEXTS = {"batch": 1, "time": 16, "features": 256}, {"batch": 8, "time": 256, "features": 512}
STEPS, MANY_STEPS = {"batch": 1, "time": 50, "features": 64}, {"batch": 16, "time": 200, "features": 128}
CHAIN, CHAINS = {"batch": 1, "time": 50, "tags": 12}, {"batch": 16, "time": 200, "tags": 32}
TABLE, TABLES = {"batch": 1, "rows": 64, "columns": 64}, {"batch": 8, "rows": 256, "columns": 256}
HEADS = {"heads": 8, "key_heads": 2}


def attention(features: int, heads: int, key_heads: int) -> nn.Module:
    return text.GroupedQueryAttention(features, heads, key_heads)


def retention(features: int, heads: int) -> nn.Module:
    return sequence.Retention(features, heads)


CRF = dynamic_programming.LinearChainCRF
CASES = (
    Case("CenteredLayer", lambda **_: basic.CenteredLayer(), vectors, TEXT, TEXTS),
    Case("MyLinear", lambda features: basic.MyLinear(features, features), vectors, TEXT, TEXTS),
    Case("BlurPool2d", image.BlurPool2d, pixels, IMAGE, IMAGES),
    Case(
        "DeformConv2d",
        lambda channels: image.DeformConv2d(channels, channels, padding=1),
        deformed,
        IMAGE,
        {"batch": 4, "channels": 64, "height": 56, "width": 56},
    ),
    Case("GlobalResponseNorm", image.GlobalResponseNorm, pixels, IMAGE, IMAGES),
    Case(
        "Involution2d",
        lambda channels: image.Involution2d(channels, groups=channels // 16),
        pixels,
        IMAGE,
        {"batch": 4, "channels": 128, "height": 28, "width": 28},
    ),
    Case("LayerNorm2d", image.LayerNorm2d, pixels, IMAGE, IMAGES),
    Case(
        "SpatialTransformer",
        image.SpatialTransformer,
        pixels,
        {"batch": 1, "channels": 1, "height": 28, "width": 28},
        {"batch": 16, "channels": 3, "height": 64, "width": 64},
    ),
    Case("SqueezeExcite", lambda channels: image.SqueezeExcite(channels, channels // 16), pixels, IMAGE, IMAGES),
    Case(
        "AlibiBias",
        text.AlibiBias,
        lambda queries, keys, **_: (torch.arange(keys - queries, keys), torch.arange(keys)),
        {"heads": 8, "queries": 16, "keys": 16},
        {"heads": 8, "queries": 512, "keys": 512},
    ),
    Case(
        "GroupedQueryAttention",
        attention,
        with_mask,
        {**TEXT, **HEADS},
        {**TEXTS, **HEADS},
    ),
    Case(
        "GroupedQueryAttention.step",
        attention,
        attention_step,
        {"batch": 1, "past": 64, "features": 256, **HEADS},
        {"batch": 8, "past": 512, "features": 512, **HEADS},
    ),
    Case(
        "HashEmbedding",
        lambda features, entries: text.HashEmbedding(entries, features),
        lambda batch, time, **_: (torch.randint(0, 2**31 - 1, (batch, time)),),
        {"batch": 1, "time": 16, "entries": 10_000, "features": 64},
        {"batch": 32, "time": 256, "entries": 10_000, "features": 64},
    ),
    Case("RMSNorm", lambda features: text.RMSNorm(features), vectors, TEXT, TEXTS),  # noqa: PLW0108 - the size has another name
    Case(
        "RotaryEmbedding",
        lambda features, **_: text.RotaryEmbedding(features),
        lambda batch, heads, time, features: (torch.randn(batch, heads, time, features), torch.arange(time)),
        {"batch": 1, "heads": 8, "time": 16, "features": 32},
        {"batch": 8, "heads": 8, "time": 256, "features": 64},
    ),
    Case("SwiGLU", lambda features: text.SwiGLU(features, 8 * features // 3), vectors, TEXT, TEXTS),
    Case("CausalConvBlock", lambda features: sequence.CausalConvBlock(features, features, dilation=4), vectors, STEPS, MANY_STEPS),
    Case(
        "ConvLSTM",
        sequence.ConvLSTM,
        images_in_time,
        {"batch": 1, "time": 10, "channels": 8, "hidden": 16, "height": 16, "width": 16},
        {"batch": 4, "time": 20, "channels": 16, "hidden": 32, "height": 32, "width": 32},
    ),
    Case("MinGRU", lambda features: sequence.MinGRU(features, features), with_state, STEPS, MANY_STEPS),
    Case(
        "MinimalGatedUnit",
        lambda features: sequence.MinimalGatedUnit(features, features),
        lambda **sizes: (*with_mask(**sizes), torch.zeros(sizes["batch"], sizes["features"])),
        STEPS,
        MANY_STEPS,
    ),
    Case("Retention", retention, vectors, {**TEXT, "heads": 4}, {**TEXTS, "heads": 8}),
    Case(
        "Retention.step",
        retention,
        lambda batch, features, heads: (
            torch.randn(batch, 1, features),
            torch.randn(batch, heads, features // heads, features // heads),
            torch.tensor([100]),
        ),
        {"batch": 1, "features": 256, "heads": 4},
        {"batch": 16, "features": 512, "heads": 8},
    ),
    Case(
        "SelectiveScan",
        lambda features: sequence.SelectiveScan(features, rank=features // 16),
        lambda batch, time, features: (torch.randn(batch, time, features), torch.zeros(batch, features, 16)),
        STEPS,
        MANY_STEPS,
    ),
    Case(
        "CTCLoss",
        lambda **_: dynamic_programming.CTCLoss(),
        ctc,
        {"batch": 1, "time": 50, "classes": 30, "labels": 10},
        {"batch": 16, "time": 200, "classes": 30, "labels": 40},
    ),
    Case(
        "CTCPrefixBeamSearch",
        lambda beam, **_: dynamic_programming.CTCPrefixBeamSearch(beam),
        log_probs,
        {"batch": 1, "time": 50, "classes": 30, "beam": 8},
        {"batch": 8, "time": 100, "classes": 30, "beam": 16},
    ),
    Case("DynamicTimeWarping", dynamic_programming.DynamicTimeWarping, table, TABLE, TABLES),
    Case(
        "EditDistance",
        dynamic_programming.EditDistance,
        token_pairs,
        TABLE,
        TABLES,
    ),
    Case("Inside", dynamic_programming.Inside, emissions, {"batch": 1, "time": 16, "symbols": 8}, {"batch": 4, "time": 32, "symbols": 16}),
    Case("LinearChainCRF", CRF, tagged, CHAIN, CHAINS),
    Case("LinearChainCRF.decode", CRF, emissions, CHAIN, CHAINS),
    Case("LinearChainCRF.k_best", CRF, emissions, {**CHAIN, "k": 5}, {**CHAINS, "k": 5}),
    Case("NeedlemanWunsch", dynamic_programming.NeedlemanWunsch, table, TABLE, TABLES),
    Case("Sinkhorn", dynamic_programming.Sinkhorn, transport, TABLE, TABLES),
    Case("SinkhornConverged", dynamic_programming.SinkhornConverged, transport, TABLE, TABLES),
    Case("SmithWaterman", dynamic_programming.SmithWaterman, table, TABLE, TABLES),
    Case("SoftDTW", dynamic_programming.SoftDTW, table, TABLE, TABLES),
)
