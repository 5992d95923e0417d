"""The layers over text; the oracles go through positions one by one."""

import cmath
import math

import numpy as np
import torch
from contract import Subject, ragged, swap

from layers.text import AlibiBias, GroupedQueryAttention, HashEmbedding, RMSNorm, RotaryEmbedding, SwiGLU

SIZES = ({"batch": 2, "time": 4}, {"batch": 3, "time": 9}, {"batch": 1, "time": 6})
EDGES = ({"batch": 2, "time": 1}, {"batch": 2, "time": 0}, {"batch": 0, "time": 3})
DYNAMIC = {"x": {0: "batch", 1: "time"}}
WRONG = (("x", swap(0, lambda x: x[..., :3])),)


def draw(batch, time):
    return (torch.randn(batch, time, 8),)


def numpy(*tensors):
    return [one.detach().numpy() for one in tensors]


def rms_norm(layer, x):
    x, weight = numpy(x, layer.weight)
    return np.array([[row / math.sqrt((row**2).mean() + 1e-6) * weight for row in one] for one in x]).reshape(x.shape)


def silu(x):
    return x / (1 + np.exp(-x))


def swiglu(layer, x):
    x, gate, up, down = numpy(x, layer.gate.weight, layer.up.weight, layer.down.weight)
    return np.array([[down @ (silu(gate @ row) * (up @ row)) for row in one] for one in x]).reshape(x.shape)


def rotated(vector, position, base=10000.0):
    """Turns each pair, seen as a complex number, by its angle."""
    half = len(vector) // 2
    turned = [complex(vector[i], vector[i + half]) * cmath.exp(1j * position * base ** (-2 * i / len(vector))) for i in range(half)]
    return np.array([one.real for one in turned] + [one.imag for one in turned])


def rotary(layer, x, positions):
    x, positions = numpy(x, positions)
    out = np.zeros_like(x)
    for b, h, t in np.ndindex(*x.shape[:3]):
        out[b, h, t] = rotated(x[b, h, t], positions[t])
    return out


def alibi(layer, queries, keys):
    slopes = [2 ** -(2 * (h + 1)) for h in range(4)] + [2**-1, 2**-3]  # for 6 heads: those of 4, then every second of 8
    return np.array([[[-slope * abs(q - k) for k in keys.tolist()] for q in queries.tolist()] for slope in slopes]).reshape(
        6, len(queries), len(keys)
    )


def hashed(layer, ids):
    table, importance = numpy(layer.table, layer.importance)
    out = np.zeros((*ids.shape, table.shape[1]))
    for place in np.ndindex(*ids.shape):
        one = int(ids[place])
        for k, (a, b) in enumerate(zip(layer.factors.tolist(), layer.terms.tolist(), strict=True)):
            out[place] += importance[one % 16, k] * table[(a * one + b) % (2**31 - 1) % 7]
    return out


def attention(layer, x, mask, start=0, keys=None, values=None):
    """Attends position by position, head by head, to what lies before and is no padding; returns the output, keys and values."""
    x, wq, wk, wv, wo = numpy(x, layer.query.weight, layer.key.weight, layer.value.weight, layer.out.weight)
    batch, time, width = x.shape
    out, new = np.zeros_like(x), np.zeros((2, batch, 2, start + time, 2))
    if start:
        new[:, :, :, :start] = keys, values
    for b in range(batch):
        for t in range(time):
            for g in range(2):
                new[0, b, g, start + t] = rotated((wk @ x[b, t])[2 * g : 2 * g + 2], start + t)
                new[1, b, g, start + t] = (wv @ x[b, t])[2 * g : 2 * g + 2]
            gathered = np.zeros(width)
            for h in range(4):
                query = rotated((wq @ x[b, t])[2 * h : 2 * h + 2], start + t)
                places = [s for s in range(start + t + 1) if mask[b, s]]
                scores = np.array([query @ new[0, b, h // 2, s] / math.sqrt(2) for s in places])
                weights = np.exp(scores - scores.max(initial=0))
                for s, weight in zip(places, weights / weights.sum(), strict=True):
                    gathered[2 * h : 2 * h + 2] += weight * new[1, b, h // 2, s]
            out[b, t] = wo @ gathered
    return out, new[0], new[1]


def draw_attention(batch, time):
    return torch.randn(batch, time, 8), ragged(batch, time)


def draw_step(batch, time, past):
    past_mask = ragged(batch, past).flip(1)  # padding stands on the left, as where many sequences go on together
    return torch.randn(batch, time, 8), ragged(batch, time), torch.randn(batch, 2, past, 2), torch.randn(batch, 2, past, 2), past_mask


def attention_step(layer, x, mask, keys, values, past_mask):
    whole = torch.cat([past_mask, mask], 1)
    return *attention(layer, x, whole, keys.shape[2], keys, values), whole


CACHE = {0: "batch", 2: "past"}
SUBJECTS = (
    Subject("rms_norm", lambda: RMSNorm(8), draw, rms_norm, SIZES, EDGES, DYNAMIC, WRONG),
    Subject("swiglu", lambda: SwiGLU(8, 5), draw, swiglu, SIZES, EDGES, DYNAMIC, WRONG),
    Subject(
        "rotary_embedding",
        lambda: RotaryEmbedding(6),
        lambda batch, time: (torch.randn(batch, 2, time, 6), torch.randint(0, 50, (time,))),
        rotary,
        SIZES,
        EDGES,
        {"x": {0: "batch", 2: "time"}, "positions": {0: "time"}},
        (*WRONG, ("positions", swap(1, lambda one: one.unsqueeze(0)))),
    ),
    Subject(
        "alibi_bias",
        lambda: AlibiBias(6),
        lambda batch, time: (torch.randint(0, 50, (batch,)), torch.randint(0, 50, (time,))),
        alibi,
        SIZES,
        EDGES,
        {"queries": {0: "queries"}, "keys": {0: "keys"}},
        (("queries", swap(0, lambda one: one.unsqueeze(0))), ("keys", swap(1, lambda one: one.unsqueeze(0)))),
        differentiable=False,
    ),
    Subject(
        "hash_embedding",
        lambda: HashEmbedding(7, 8, 3, 16),
        lambda batch, time: (torch.randint(0, 2**31 - 1, (batch, time)),),
        hashed,
        SIZES,
        EDGES,
        {"ids": {0: "batch", 1: "time"}},
        (("ids", swap(0, lambda one: one.float())),),
    ),
    Subject(
        "grouped_query_attention",
        lambda: GroupedQueryAttention(8, 4, 2),
        draw_attention,
        lambda layer, x, mask: attention(layer, x, mask)[0],
        SIZES,
        EDGES,
        {"x": {0: "batch", 1: "time"}, "mask": {0: "batch", 1: "time"}},
        (*WRONG, ("mask", swap(1, lambda one: one[:, 1:])), ("mask", swap(1, lambda one: one.float()))),
        slack=16,
    ),
    Subject(
        "grouped_query_attention_step",
        lambda: GroupedQueryAttention(8, 4, 2),
        draw_step,
        attention_step,
        ({"batch": 2, "time": 3, "past": 4}, {"batch": 3, "time": 1, "past": 5}),
        ({"batch": 2, "time": 1, "past": 0}, {"batch": 0, "time": 1, "past": 2}, {"batch": 2, "time": 0, "past": 3}),
        {**DYNAMIC, "mask": {0: "batch", 1: "time"}, "keys": CACHE, "values": CACHE, "past_mask": {0: "batch", 1: "past"}},
        (
            *WRONG,
            ("mask", swap(1, lambda one: one[1:])),
            ("keys", swap(2, lambda one: one[..., :1])),
            ("values", swap(3, lambda one: one[:, :1])),
            ("past_mask", swap(4, lambda one: one[:, 1:])),
        ),
        method="step",
        slack=16,
    ),
)
