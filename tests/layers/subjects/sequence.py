"""The layers over sequences; the oracles go step by step."""

import math

import numpy as np
import torch
from contract import Subject, ragged, swap

from layers.sequence import CausalConvBlock, ConvLSTM, MinGRU, MinimalGatedUnit, Retention, SelectiveScan
from subjects.text import numpy, rotated, silu

SIZES = ({"batch": 2, "time": 5}, {"batch": 3, "time": 9}, {"batch": 1, "time": 16})
EDGES = ({"batch": 2, "time": 1}, {"batch": 2, "time": 0}, {"batch": 0, "time": 3})
TIME = {0: "batch", 1: "time"}
WRONG_X = ("x", swap(0, lambda x: x[:, :, :1]))


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def gated_unit(layer, x, mask, state):
    x, mask, h, w, b, u, v = numpy(x, mask, state, layer.enter.weight, layer.enter.bias, layer.gate.weight, layer.candidate.weight)
    out = np.zeros((*x.shape[:2], 4))
    h = h.copy()
    for n, t in np.ndindex(*x.shape[:2]):
        if mask[n, t]:
            entered = w @ x[n, t] + b
            f = sigmoid(entered[:4] + u @ h[n])
            h[n] = (1 - f) * h[n] + f * np.tanh(entered[4:] + v @ (f * h[n]))
        out[n, t] = h[n]
    return out, h


def min_gru(layer, x, state):
    x, h, w, b, v, c = numpy(x, state, layer.gate.weight, layer.gate.bias, layer.candidate.weight, layer.candidate.bias)
    out = np.zeros((*x.shape[:2], 4))
    h = h.copy()
    for n, t in np.ndindex(*x.shape[:2]):
        z = sigmoid(w @ x[n, t] + b)
        out[n, t] = h[n] = (1 - z) * h[n] + z * (v @ x[n, t] + c)
    return out, h


def selective_scan(layer, x, state):
    x, h, select, pace, bias, log_decay, skip = numpy(
        x, state, layer.select.weight, layer.pace.weight, layer.pace.bias, layer.log_decay, layer.skip
    )
    out, h = np.zeros_like(x), h.copy()
    for n, t in np.ndindex(*x.shape[:2]):
        chosen = select @ x[n, t]
        d = np.log1p(np.exp(pace @ chosen[:2] + bias))
        for e in range(3):
            for s in range(4):
                h[n, e, s] = math.exp(-d[e] * math.exp(log_decay[e, s])) * h[n, e, s] + d[e] * chosen[2 + s] * x[n, t, e]
            out[n, t, e] = chosen[6:] @ h[n, e] + skip[e] * x[n, t, e]
    return out, h


def causal_block(layer, x):
    x, w, b, v, c, r, s = numpy(
        x, layer.one.weight, layer.one.bias, layer.two.weight, layer.two.bias, layer.around.weight, layer.around.bias
    )

    def causal(y, weight, bias):
        out = np.zeros((*y.shape[:2], len(bias)))
        for n, t in np.ndindex(*y.shape[:2]):
            back = [t - 2 * (2 - k) for k in range(3)]  # dilation 2
            out[n, t] = bias + sum(weight[:, :, k] @ y[n, place] for k, place in enumerate(back) if place >= 0)
        return np.maximum(out, 0)

    return np.maximum(causal(causal(x, w, b), v, c) + x @ r.T + s, 0)


def conv_lstm(layer, x, state, memory):
    x, h, c, w, b, u = numpy(x, state, memory, layer.enter.weight, layer.enter.bias, layer.keep.weight)
    out = np.zeros((*x.shape[:2], *h.shape[1:]))
    for t in range(x.shape[1]):
        gates = np.zeros((len(x), len(b), *x.shape[3:]))
        for i, j in np.ndindex(*x.shape[3:]):
            gates[:, :, i, j] += b
            for p, q in np.ndindex(3, 3):
                y, z = i + p - 1, j + q - 1
                if 0 <= y < x.shape[3] and 0 <= z < x.shape[4]:
                    gates[:, :, i, j] += x[:, t, :, y, z] @ w[:, :, p, q].T + h[:, :, y, z] @ u[:, :, p, q].T
        come, forget, leave, new = np.split(gates, 4, 1)
        c = sigmoid(forget) * c + sigmoid(come) * np.tanh(new)
        h = out[:, t] = sigmoid(leave) * np.tanh(c)
    return out, h, c


def retention(layer, x, state, positions):
    """The recurrent form, head by head."""
    x, state, enter, leave = numpy(x, state, layer.enter.weight, layer.out.weight)
    out, state = np.zeros_like(x), state.copy()
    for n, t in np.ndindex(*x.shape[:2]):
        q, k, v, gate = np.split(enter @ x[n, t], 4)
        gathered = np.zeros(8)
        for h in range(2):
            mine = slice(4 * h, 4 * h + 4)
            key = rotated(k[mine], int(positions[t])) / 2
            state[n, h] = (1 - 2.0 ** (-5 - h)) * state[n, h] + np.outer(key, v[mine])
            retained = rotated(q[mine], int(positions[t])) @ state[n, h]
            gathered[mine] = (retained - retained.mean()) / np.sqrt(retained.var() + 1e-5)
        out[n, t] = leave @ (silu(gate) * gathered)
    return out, state


def draw_images(batch, time, height=3, width=4):
    return torch.randn(batch, time, 2, height, width), torch.randn(batch, 3, height, width), torch.randn(batch, 3, height, width)


PIXELS = {0: "batch", 2: "height", 3: "width"}
SUBJECTS = (
    Subject(
        "minimal_gated_unit",
        lambda: MinimalGatedUnit(3, 4),
        lambda batch, time: (torch.randn(batch, time, 3), ragged(batch, time), torch.randn(batch, 4)),
        gated_unit,
        SIZES,
        EDGES,
        {"x": TIME, "mask": TIME, "state": {0: "batch"}},
        (WRONG_X, ("mask", swap(1, lambda one: one.float())), ("state", swap(2, lambda one: one[:, :3]))),
    ),
    Subject(
        "min_gru",
        lambda: MinGRU(3, 4),
        lambda batch, time: (torch.randn(batch, time, 3), torch.randn(batch, 4)),
        min_gru,
        SIZES,
        EDGES,
        {"x": TIME, "state": {0: "batch"}},
        (WRONG_X, ("state", swap(1, lambda one: one[:, :3]))),
    ),
    Subject(
        "selective_scan",
        lambda: SelectiveScan(3, 4, 2),
        lambda batch, time: (torch.randn(batch, time, 3), torch.randn(batch, 3, 4)),
        selective_scan,
        SIZES,
        EDGES,
        {"x": TIME, "state": {0: "batch"}},
        (WRONG_X, ("state", swap(1, lambda one: one[:, :, :3]))),
    ),
    Subject(
        "causal_conv_block",
        lambda: CausalConvBlock(3, 4, 3, 2),
        lambda batch, time: (torch.randn(batch, time, 3),),
        causal_block,
        SIZES,
        EDGES,
        {"x": TIME},
        (WRONG_X,),
    ),
    Subject(
        "conv_lstm",
        lambda: ConvLSTM(2, 3),
        draw_images,
        conv_lstm,
        (*SIZES, {"batch": 2, "time": 3, "height": 5, "width": 2}),
        (*EDGES, {"batch": 2, "time": 2, "height": 1, "width": 1}),
        {"x": {**TIME, 3: "height", 4: "width"}, "state": PIXELS, "memory": PIXELS},
        (WRONG_X, ("state", swap(1, lambda one: one[:, :2])), ("memory", swap(2, lambda one: one[:, :2]))),
    ),
    Subject(
        "retention",
        lambda: Retention(8, 2),
        lambda batch, time: (torch.randn(batch, time, 8),),
        lambda layer, x: retention(layer, x, x.new_zeros(len(x), 2, 4, 4), range(x.shape[1]))[0],
        SIZES,
        EDGES,
        {"x": TIME},
        (WRONG_X,),
        slack=32,  # a small variance is divided by
    ),
    Subject(
        "retention_step",
        lambda: Retention(8, 2),
        lambda batch, time: (torch.randn(batch, time, 8), torch.randn(batch, 2, 4, 4), torch.arange(7, 7 + time)),
        retention,
        ({"batch": 2, "time": 1}, {"batch": 3, "time": 2}),
        EDGES,
        {"x": {0: "batch"}, "state": {0: "batch"}, "positions": {}},
        (WRONG_X, ("state", swap(1, lambda one: one[:, :1])), ("positions", swap(2, lambda one: one.unsqueeze(0)))),
        method="step",
        slack=32,
    ),
)
