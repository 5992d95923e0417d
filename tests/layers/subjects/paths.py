"""Dynamic programs over one sequence; the oracles list all tag sequences, alignments and trees."""

import itertools
import math

import torch
from contract import Subject, ragged, swap

from layers.dynamic_programming import CTCLoss, CTCPrefixBeamSearch, Inside, LinearChainCRF

SIZES = ({"batch": 2, "time": 4}, {"batch": 3, "time": 5}, {"batch": 1, "time": 3})
EDGES = ({"batch": 2, "time": 1}, {"batch": 2, "time": 0}, {"batch": 0, "time": 3})
TIME = {0: "batch", 1: "time"}


def log_sum(values):
    top = max(values, default=-math.inf)
    return top + math.log(sum(math.exp(one - top) for one in values)) if top > -math.inf else -math.inf


def tag_scores(layer, emissions, mask):
    """Yields the scores of all tag sequences of each row."""
    start, end, transitions = (one.tolist() for one in (layer.start, layer.end, layer.transitions))
    for row, on in zip(emissions.tolist(), mask, strict=True):
        length = int(on.sum())
        scores = {}
        for tags in itertools.product(range(3), repeat=length):
            inner = sum(transitions[a][b] for a, b in itertools.pairwise(tags))
            ends = start[tags[0]] + end[tags[-1]] if tags else 0.0
            scores[tags] = ends + inner + sum(row[t][tag] for t, tag in enumerate(tags))
        yield scores


def likelihood(layer, emissions, tags, mask):
    found = []
    for scores, own, on in zip(tag_scores(layer, emissions, mask), tags, mask, strict=True):
        found.append(scores[tuple(own[on].tolist())] - log_sum(list(scores.values())))
    return torch.tensor(found, dtype=torch.float64)


def padded(rows, *shape):
    out = torch.full(shape, -1)
    for number, row in enumerate(rows):
        out[number, : len(row)] = torch.tensor(row, dtype=torch.int64)
    return out


def decoded(layer, emissions, mask):
    best = [max(one.items(), key=lambda pair: pair[1]) for one in tag_scores(layer, emissions, mask)]
    return torch.tensor([score for _, score in best], dtype=torch.float64), padded([tags for tags, _ in best], *mask.shape)


def k_best(layer, emissions, mask, k=4):
    totals, paths = torch.full((len(mask), k), -math.inf, dtype=torch.float64), torch.full((len(mask), k, mask.shape[1]), -1)
    for number, scores in enumerate(tag_scores(layer, emissions, mask)):
        for rank, tags in enumerate(sorted(scores, key=scores.get, reverse=True)[:k]):
            totals[number, rank] = scores[tags]
            paths[number, rank, : len(tags)] = torch.tensor(tags, dtype=torch.int64)
    return totals, paths


def draw_ctc(batch, time, labels):
    step_mask, target_mask = ragged(batch, time, 1), ragged(batch, labels).flip(0)  # the last labelling does not fit into its steps
    return torch.randn(batch, time, 3).log_softmax(2), torch.randint(1, 3, (batch, labels)), step_mask, target_mask


def labelling(alignment):
    return tuple(label for label, _ in itertools.groupby(alignment) if label)


def labellings(row, length):
    """Gives each labelling's log-probability, summed over all alignments."""
    found = {}
    for alignment in itertools.product(range(3), repeat=length):
        found.setdefault(labelling(alignment), []).append(sum(row[t][label] for t, label in enumerate(alignment)))
    return {labels: log_sum(scores) for labels, scores in found.items()}


def ctc_loss(layer, log_probs, targets, step_mask, target_mask):
    found = []
    for row, labels, steps, on in zip(log_probs.tolist(), targets, step_mask, target_mask, strict=True):
        found.append(-labellings(row, int(steps.sum())).get(tuple(labels[on].tolist()), -math.inf))
    return torch.tensor(found, dtype=torch.float64)


def best_labellings(layer, log_probs, step_mask):
    totals = torch.full((len(step_mask), layer.beam), -math.inf, dtype=torch.float64)
    found = torch.full((len(step_mask), layer.beam, step_mask.shape[1]), -1)
    for number, (row, on) in enumerate(zip(log_probs.tolist(), step_mask, strict=True)):
        scores = labellings(row, int(on.sum()))
        for rank, labels in enumerate(sorted(scores, key=scores.get, reverse=True)[: layer.beam]):
            totals[number, rank] = scores[labels]
            found[number, rank, : len(labels)] = torch.tensor(labels, dtype=torch.int64)
    return totals, found


def trees(layer, row, first, last, symbol):
    """Lists the weights of all trees over leaves first to last with a symbol at the root, as logarithms."""
    if first == last:
        return [row[first][symbol]]
    rules, found = layer.rules[symbol].tolist(), []
    for split, a, b in itertools.product(range(first, last), range(2), range(2)):
        parts = itertools.product(trees(layer, row, first, split, a), trees(layer, row, split + 1, last, b))
        found += [rules[a][b] + x + y for x, y in parts]
    return found


def inside(layer, emissions, mask):
    totals = []
    for row, on in zip(emissions.tolist(), mask, strict=True):
        length = int(on.sum())
        every = [layer.root[s].item() + one for s in range(2) for one in trees(layer, row, 0, length - 1, s)] if length else []
        totals.append(log_sum(every))
    return torch.tensor(totals, dtype=torch.float64)


def draw_scores(batch, time):
    return torch.randn(batch, time, 3), ragged(batch, time)


EMISSIONS = {"emissions": TIME, "mask": TIME}
WRONG = (
    ("emissions", swap(0, lambda one: one[..., :1])),
    ("mask", swap(1, lambda one: one.float())),
)
CTC = (
    {"batch": 2, "time": 8, "labels": 3},
    {"batch": 3, "time": 6, "labels": 2},
    {"batch": 1, "time": 4, "labels": 1},
)
SUBJECTS = (
    Subject(
        "linear_chain_crf",
        lambda: LinearChainCRF(3),
        lambda batch, time: (torch.randn(batch, time, 3), torch.randint(0, 3, (batch, time)), ragged(batch, time)),
        likelihood,
        SIZES,
        EDGES,
        {"emissions": TIME, "tags": TIME, "mask": TIME},
        (
            ("emissions", swap(0, lambda one: one[..., :2])),
            ("tags", swap(1, lambda one: one.float())),
            ("mask", swap(2, lambda one: one[0])),
        ),
    ),
    Subject("linear_chain_crf_decode", lambda: LinearChainCRF(3), draw_scores, decoded, SIZES, EDGES, EMISSIONS, WRONG, method="decode"),
    Subject("linear_chain_crf_k_best", lambda: LinearChainCRF(3, 4), draw_scores, k_best, SIZES, EDGES, EMISSIONS, WRONG, method="k_best"),
    Subject(
        "ctc_loss",
        CTCLoss,
        draw_ctc,
        ctc_loss,
        CTC,
        (
            {"batch": 2, "time": 1, "labels": 1},
            {"batch": 2, "time": 3, "labels": 0},
            {"batch": 2, "time": 0, "labels": 2},
            {"batch": 3, "time": 2, "labels": 3},
            {"batch": 0, "time": 2, "labels": 1},
        ),
        {
            "log_probs": TIME,
            "targets": {0: "batch", 1: "labels"},
            "step_mask": TIME,
            "target_mask": {0: "batch", 1: "labels"},
        },
        (
            ("log_probs", swap(0, lambda one: one[0])),
            ("targets", swap(1, lambda one: one[0])),
            ("step_mask", swap(2, lambda one: one.float())),
            ("target_mask", swap(3, lambda one: one.float())),
        ),
    ),
    Subject(
        "ctc_prefix_beam_search",
        lambda: CTCPrefixBeamSearch(26),  # 25 labellings of two labels fit into five steps: nothing falls out
        lambda batch, time: (torch.randn(batch, time, 3).log_softmax(2), ragged(batch, time)),
        best_labellings,
        SIZES,
        EDGES,
        {"log_probs": TIME, "step_mask": TIME},
        (
            ("log_probs", swap(0, lambda one: one[0])),
            ("step_mask", swap(1, lambda one: one.float())),
        ),
    ),
    Subject(
        "inside",
        lambda: Inside(2),
        lambda batch, time: (torch.randn(batch, time, 2), ragged(batch, time)),
        inside,
        SIZES,
        EDGES,
        EMISSIONS,
        WRONG,
    ),
)
