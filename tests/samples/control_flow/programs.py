"""Small networks, each with one construct of Python that must stay alive in an artifact."""

import math
from dataclasses import dataclass
from typing import Any, Callable, List, Optional, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class Program:
    """A network, how to draw its inputs at a length, and the lengths to try; the first is what it is exported with."""

    network: Callable[[], nn.Module]
    draw: Callable[[int], Tuple[Tensor, ...]]
    lengths: Tuple[int, ...]


PROGRAMS: dict[str, Program] = {}


def rows(n: int) -> Tuple[Tensor, ...]:
    return (torch.randn(n, 4),)


def batch(n: int) -> Tuple[Tensor, ...]:
    return (torch.randn(2, n, 4),)


def square(n: int) -> Tuple[Tensor, ...]:
    return (torch.rand(n, n + 2),)


def program(draw: Callable[[int], Tuple[Tensor, ...]] = rows, lengths: Tuple[int, ...] = (5, 1, 13)) -> Any:
    def register(kind: Any) -> Any:
        PROGRAMS[kind.__name__] = Program(kind, draw, lengths)
        return kind

    return register


# ---- for, its ranges and what it carries


@program(batch)
class GatedCell(nn.Module):
    def __init__(self):
        super().__init__()
        self.gate, self.new = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x):
        h = torch.zeros_like(x[:, 0])
        outputs = []
        for t in range(x.size(1)):
            z = torch.sigmoid(self.gate(x[:, t]))
            h = (1 - z) * h + z * torch.tanh(self.new(x[:, t]) + h)
            outputs.append(h)
        return torch.stack(outputs, dim=1), h


def tokens(n: int) -> Tuple[Tensor, ...]:
    return torch.randint(0, 7, (2, n)), torch.randn(2, n + 1, 4)


@program(tokens, lengths=(5, 1, 0, 13))
class ProjectedRows(nn.Module):
    """What hangs on a row alone: a table, a norm and products of matrices; the weights of one hang on the step."""

    def __init__(self):
        super().__init__()
        self.embed, self.norm = nn.Embedding(7, 4), nn.LayerNorm(4)
        self.enter, self.late, self.keep = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, words, x):
        h = torch.zeros(x.shape[0], 4)
        for t in range(words.shape[1]):
            row = torch.relu(self.enter(self.norm(self.embed(words[:, t])))) + self.late(x[:, t + 1])
            h = torch.tanh(row + self.keep(h)) + nn.functional.linear(x[:, t], h[:1].t() * self.keep.weight).sum()
        return h


@program(batch)
class ListsOfSlices(nn.Module):
    def forward(self, x):
        rows, columns = x.unbind(1), x.split(1, dim=1)
        h = torch.zeros_like(rows[-1])
        outputs = [h]
        for number, row in enumerate(rows):
            for column in torch.chunk(x, x.shape[1], 1):
                h = torch.tanh(h + row + number * column[:, 0])
            outputs.append(h)
        for column in columns:
            h = h + column.mean(1)
        return torch.stack(outputs, 1), h


@program(batch)
class LstmCell(nn.Module):
    def __init__(self):
        super().__init__()
        self.cell = nn.LSTMCell(4, 3)

    def forward(self, x):
        state = (torch.zeros(x.shape[0], 3), torch.zeros(x.shape[0], 3))
        outputs: List[Tensor] = []
        for t in range(x.shape[1]):
            state = self.cell(x[:, t], state)
            outputs.append(state[0])
        return torch.stack(outputs, 1), state


@program()
class StartStep(nn.Module):
    def forward(self, x):
        h = torch.zeros_like(x[0])
        for t in range(1, x.shape[0], 2):
            h = h * 0.5 + x[t]
        return h


@program(batch)
class Backwards(nn.Module):
    def forward(self, x):
        h = torch.zeros(x.shape[0], 4)
        out = torch.zeros_like(x)
        for t in range(x.shape[1] - 1, -1, -1):
            h = h * 0.5 + x[:, t]
            out[:, t] = h
        return out


@program()
class OverRows(nn.Module):
    def forward(self, x):
        h = torch.zeros_like(x[0])
        for row in x:
            h = torch.tanh(h + row)
        return h


@program(lambda n: (torch.randn(n, 4), torch.randn(n, 4)))
class ZipEnumerate(nn.Module):
    def forward(self, x, y):
        h = torch.zeros_like(x[0])
        out: List[Tensor] = []
        for i, (a, b) in enumerate(zip(x, y)):
            h = h * 0.5 + a * b * i
            out.append(h)
        return torch.stack(out), out[-1]


@program(lengths=(5, 0, 1, 9))
class ZeroSteps(nn.Module):
    def forward(self, x):
        h = torch.zeros(x.shape[1])
        out = [h]
        for t in range(x.shape[0]):
            h = h * 0.5 + x[t]
            out.append(h)
        return torch.stack(out), h


@program(lengths=(6, 2, 13))
class Neighbours(nn.Module):
    def forward(self, x):
        out = torch.zeros_like(x)
        for t in range(1, x.shape[0] - 1):
            out[t] = x[t - 1] + 2 * x[t] - x[t + 1]
        return out


@program(batch, (6, 3, 11))
class Window(nn.Module):
    def forward(self, x):
        out = []
        for t in range(x.shape[1] - 2):
            out.append(x[:, t : t + 3].mean(1))
        return torch.stack(out, 1)


@program(batch)
class Prefix(nn.Module):
    def forward(self, x):
        out = []
        for t in range(x.shape[1]):
            out.append(x[:, : t + 1].mean(1))
        return torch.stack(out, 1)


@program()
class NumbersCarried(nn.Module):
    def forward(self, x):
        weight, count, seen, total = 1.0, 0, False, torch.zeros(4)
        for t in range(x.shape[0]):
            total = total + weight * x[t]
            weight = weight * 0.5
            if t % 2 == 0:
                count += 1
            seen = seen or bool(x[t, 0] > 1)
        return total / x.shape[0], count, weight, torch.tensor(seen)


@program()
class BestSoFar(nn.Module):
    def forward(self, x):
        best, where = x[0].sum(), 0
        for t in range(x.shape[0]):
            value = x[t].sum()
            if value > best:
                best, where = value, t
        return best, where, x[where]


@program(lambda n: (torch.randn(n, 4), torch.randint(0, 3, (n,))))
class IndexFromTensor(nn.Module):
    def forward(self, x, group):
        out = torch.zeros(3, 4)
        for t in range(x.shape[0]):
            k = int(group[t])
            out[k] += x[t]
        return out


@program()
class Refuses(nn.Module):
    def forward(self, x):
        if x.shape[0] > 1000 or bool(x.abs().max() > 1000):
            raise ValueError(f"x must be small, got {list(x.shape)} and {x.dtype}")
        h = torch.zeros_like(x[0])
        for t in range(x.shape[0]):
            h = h * 0.5 + x[t]
        return h


@program()
class SharedName(nn.Module):
    def __init__(self):
        super().__init__()
        self.x = 3  # as forward's parameter, which is another value

    def forward(self, x):
        h = torch.zeros_like(x[0])
        for t in range(x.shape[0]):
            h = h * 0.5 + x[t] * self.x
        return h


@program()
class Optionally(nn.Module):
    def forward(self, x):
        h: Optional[Tensor] = None
        for t in range(x.shape[0]):
            if h is None:
                h = x[t]
            else:
                h = torch.tanh(h + x[t])
        return h


@program(batch)
class Resumed(nn.Module):
    """`state=None` without a type: TorchScript reads a tensor, and drops what is done where there is none."""

    def __init__(self):
        super().__init__()
        self.cell = nn.GRUCell(4, 4)

    def start(self, x, state=None):
        # type: (Tensor, Optional[Tensor]) -> Tensor
        return torch.zeros_like(x[:, 0]) if state is None else state

    def forward(self, x, state=None, scale=None):
        h = self.start(x, state)
        if scale is not None:
            h = h * scale
        for t in range(x.size(1)):
            h = self.cell(x[:, t], h)
        return h


@program()
class BroadcastStart(nn.Module):
    def forward(self, x):
        h = torch.zeros(1)
        for t in range(x.shape[0]):
            h = h + x[t]
        return h


def blend(h: Tensor, x: Tensor, share: float) -> Tensor:
    return share * h + (1 - share) * x


@program(batch)
class FreeFunction(nn.Module):
    def forward(self, x):
        h = x.new_zeros(x.shape[0], 4)
        for t in range(x.shape[1]):
            h = blend(h, x[:, t], 0.75)
        return h


@program()
class PowerIteration(nn.Module):
    def forward(self, x):
        square = x.t() @ x + torch.eye(4)
        v = torch.ones(4)
        for _ in range(x.shape[0]):
            v = square @ v
            v = v / v.norm()
        return v


@program(lambda n: (torch.randn(2, n, 4), torch.rand(2, n) > 0.3))
class MaskedCell(nn.Module):
    def __init__(self):
        super().__init__()
        self.cell = nn.GRUCell(4, 4)

    def forward(self, x, mask):
        h = torch.zeros(x.shape[0], 4)
        for t in range(x.shape[1]):
            new = self.cell(x[:, t], h)
            h = torch.where(mask[:, t].unsqueeze(-1), new, h)
        return h


@program(lambda n: (torch.randn(2, n, 3), torch.randint(0, 3, (2, n)), torch.cat([torch.ones(2, 1), torch.rand(2, n - 1)], 1) > 0.4))
class Crf(nn.Module):
    def __init__(self):
        super().__init__()
        self.start, self.step = nn.Parameter(torch.randn(3)), nn.Parameter(torch.randn(3, 3))

    def forward(self, emissions, tags, mask):
        score = self.start + emissions[:, 0]
        path = self.start[tags[:, 0]] + emissions[:, 0].gather(1, tags[:, :1]).squeeze(1)
        for t in range(1, emissions.shape[1]):
            new = torch.logsumexp(score.unsqueeze(2) + self.step + emissions[:, t].unsqueeze(1), 1)
            score = torch.where(mask[:, t].unsqueeze(1), new, score)
            path = path + (self.step[tags[:, t - 1], tags[:, t]] + emissions[:, t].gather(1, tags[:, t : t + 1]).squeeze(1)) * mask[:, t]
        return path - torch.logsumexp(score, 1)


@program(lambda n: (torch.randint(0, 3, (2, n)), torch.randint(0, 3, (2, n + 1))))
class EditDistance(nn.Module):
    def forward(self, a, b):
        row = torch.arange(b.shape[1] + 1).unsqueeze(0).expand(a.shape[0], b.shape[1] + 1)
        for i in range(a.shape[1]):
            new = [row[:, 0] + 1]
            for j in range(b.shape[1]):
                swapped = row[:, j] + (a[:, i] != b[:, j]).long()
                new.append(torch.minimum(torch.minimum(new[-1] + 1, row[:, j + 1] + 1), swapped))
            row = torch.stack(new, 1)
        return row[:, -1]


@program(lambda n: (torch.randn(2, n, 3, 4),))
class AttendingCell(nn.Module):
    """torch's attention asks for gradients, autocast and its fused kernels, in the layers and in what they are made of."""

    def __init__(self):
        super().__init__()
        self.look = nn.MultiheadAttention(4, 2, batch_first=True)
        self.blend = nn.TransformerEncoder(nn.TransformerEncoderLayer(4, 2, 8, batch_first=True), 1)

    def forward(self, x):
        h = torch.zeros_like(x[:, 0])
        for t in range(x.shape[1]):
            h = self.blend(h + self.look(x[:, t], h, h, need_weights=False)[0])
        return h


@program(batch, (5, 0, 9))
class GreedyTransformer(nn.Module):
    """A decoder that reads all that it wrote."""

    def __init__(self):
        super().__init__()
        self.embed, self.write = nn.Embedding(7, 4), nn.Linear(4, 7)
        self.read = nn.TransformerDecoder(nn.TransformerDecoderLayer(4, 2, 8, batch_first=True), 1)

    def forward(self, memory):
        written = torch.zeros(memory.shape[0], 1, dtype=torch.long)
        for t in range(memory.shape[1]):
            h = self.read(self.embed(written), memory)
            written = torch.cat([written, self.write(h[:, -1]).argmax(-1, keepdim=True)], 1)
        return written


class Block(nn.Module):
    """Attention as it is written by hand, and a layer behind it."""

    def __init__(self):
        super().__init__()
        self.enter, self.leave, self.norm = nn.Linear(4, 12), nn.Linear(4, 4), nn.LayerNorm(4)

    def forward(self, x):
        b, t, c = x.shape
        q, k, v = self.enter(self.norm(x)).chunk(3, -1)
        q, k, v = [one.view(b, t, 2, c // 2).transpose(1, 2) for one in (q, k, v)]
        return x + self.leave(F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(b, t, c))


@program(lambda n: (torch.randint(0, 7, (2, 3)), torch.zeros(n)), (5, 0, 9))
class GreedyUntilTheEnd(nn.Module):
    """A language model that goes on until each row has come to its end."""

    def __init__(self):
        super().__init__()
        self.embed, self.places, self.write = nn.Embedding(7, 4), nn.Parameter(torch.randn(64, 4)), nn.Linear(4, 7)
        self.blocks = nn.ModuleList([Block(), Block()])

    def forward(self, written, steps):
        ended = torch.zeros(written.shape[0], dtype=torch.bool)
        for _ in range(steps.shape[0]):
            h = self.embed(written) + self.places[: written.shape[1]]
            for block in self.blocks:
                h = block(h)
            token = torch.where(ended, 0, self.write(h[:, -1]).argmax(-1))
            written = torch.cat([written, token.unsqueeze(1)], 1)
            ended = ended | (token == 3)
            if ended.all():
                break
        return written


@program(lambda n: (torch.randint(0, 7, (2, n)),), (4, 2, 7))
class GreedyWithMask(nn.Module):
    """torch looks whether a mask happens to be the causal one."""

    def __init__(self):
        super().__init__()
        self.embed, self.write = nn.Embedding(7, 4), nn.Linear(4, 7)
        self.read = nn.TransformerEncoder(nn.TransformerEncoderLayer(4, 2, 8, batch_first=True), 1)

    def forward(self, written):
        for _ in range(3):
            mask = torch.triu(torch.full((written.shape[1], written.shape[1]), float("-inf")), diagonal=1)
            token = self.write(self.read(self.embed(written), mask=mask)[:, -1]).argmax(-1, keepdim=True)
            written = torch.cat([written, token], 1)
        return written


@program(batch)
class OfAnyRank(nn.Module):
    """Asks for the size of an axis that is not always there; calls functions of torch that are Python themselves."""

    def pooled(self, x):
        if x.dim() == 3:
            return x.reshape(x.shape[0], x.shape[1] * x.shape[2]).mean(1, keepdim=True)
        return x.mean(1, keepdim=True)

    def forward(self, x):
        h = torch.zeros(2, 1)
        for t in range(x.shape[1]):
            sizes = [1] * (3 - x[:, t].dim()) + list(x[:, t].shape)
            h = F.elu(h + self.pooled(x[:, t]) - self.pooled(x), alpha=0.7) + torch.norm(x[:, t]) * sizes[0]
        return h


@program(lambda n: (torch.randn(2, n, 5), torch.randint(0, 5, (2, 7))))
class CtcForward(nn.Module):
    def forward(self, x, targets):
        own = x.log_softmax(2).gather(2, targets.unsqueeze(1).expand(-1, x.shape[1], -1))
        far = torch.full_like(own[:, 0, :1], -1e30)
        alpha = torch.cat([own[:, 0, :2], far.expand(-1, targets.shape[1] - 2)], 1)
        for t in range(1, x.shape[1]):
            one = torch.cat([far, alpha[:, :-1]], 1)
            alpha = torch.logsumexp(torch.stack([alpha, one]), 0) + own[:, t]
        return -torch.logsumexp(alpha[:, -2:], 1)


@program(batch)
class NamedLikeOurs(nn.Module):
    def forward(self, x):
        rows, body = x.shape[1], torch.zeros_like(x[:, 0])
        for t in range(rows):
            body = torch.tanh(body + x[:, t])
        return body


@program(batch)
class Viterbi(nn.Module):
    def __init__(self):
        super().__init__()
        self.step = nn.Parameter(torch.randn(4, 4))

    def forward(self, emissions):
        score = emissions[:, 0]
        back = []
        for t in range(1, emissions.shape[1]):
            best, index = (score.unsqueeze(2) + self.step).max(1)
            score = best + emissions[:, t]
            back.append(index)
        tag = score.argmax(1)
        path = [tag]
        for t in range(len(back) - 1, -1, -1):
            tag = back[t].gather(1, tag.unsqueeze(1)).squeeze(1)
            path.append(tag)
        path.reverse()
        return torch.stack(path, 1), score.max(1)[0]


# ---- lists


@program(batch)
class ListsReadBackwards(nn.Module):
    """Elements from the end and from the start, of a list of loops before, of one with two elements a step, and of all but the last."""

    def forward(self, x):
        ones, twos = [x[:, 0]], []
        h = torch.zeros_like(x[:, 0])
        for t in range(x.shape[1]):
            h = torch.tanh(h + x[:, t])
            ones.append(h)
            twos.append(h * 2)
            twos.append(h - x[:, t])
        total = torch.zeros_like(h)
        for t in range(x.shape[1]):
            total = torch.tanh(total + ones[len(ones) - 1 - t] - ones[t] * ones[-1 - t] + twos[t - 1] + twos[x.shape[1] + t])
            for u in range(t):
                total = total + 0.1 * ones[t] * twos[u + 1]
        return total


@program(batch)
class NothingYet(nn.Module):
    """None before the first step, without a type."""

    def forward(self, x):
        outs = []
        before = None
        for t in range(x.shape[1]):
            now = x[:, t]
            if before is not None:
                now = now + 0.5 * before
            before = torch.tanh(now)
            outs.append(before)
        return torch.stack(outs, 1)


@program(batch)
class ReversedRanges(nn.Module):
    """Python's `reversed`, of ranges with a start and a step and of lists, and `[::-1]` of both."""

    def forward(self, x):
        n = x.shape[1]
        h = torch.zeros_like(x[:, 0])
        hs = []
        for t in reversed(range(n)):
            h = torch.tanh(h * 0.9 + x[:, t])
            hs.append(h)
        for t in reversed(range(1, n)):
            h = torch.tanh(h * 0.8 + x[:, t - 1])
        for t in reversed(range(1, n, 3)):
            h = torch.tanh(h * 0.7 + x[:, t] * t)
        for t in reversed(range(n - 1, 0, -2)):
            h = torch.tanh(h * 0.6 - x[:, t] * t)
        for t in range(n)[::-1]:
            h = torch.tanh(h * 0.5 - x[:, t])
        for k, each in enumerate(reversed(hs)):
            h = torch.tanh(h + each * k)
        return h, torch.stack(hs[::-1], 1)


@program(batch)
class InsertsInFront(nn.Module):
    """Lists that a loop fills from their end: `insert(0, h)`, once and twice a step, onto what is there already."""

    def forward(self, x):
        h = torch.zeros_like(x[:, 0])
        ones, twos, more = [], [], [h]
        for t in range(x.shape[1]):
            h = torch.tanh(h * 0.9 + x[:, t])
            ones.insert(0, h)
            twos.insert(0, h * 2)
            twos.insert(0, h - x[:, t])
            more.insert(0, x[:, t] * t)
        total = torch.zeros_like(h)
        for t in range(len(ones)):
            total = torch.tanh(total + ones[t] - twos[2 * t])
        return torch.stack(ones, 1), torch.stack(twos, 1), torch.stack(more, 1), total


@program(batch)
class RecentFirst(nn.Module):
    """A list that an outer loop lengthens, read from its end by the loops inside."""

    def forward(self, x):
        past = []
        for t in range(x.shape[1]):
            past.append(x[:, t])
        for t in range(x.shape[1]):
            h = torch.zeros_like(x[:, 0])
            for u in range(x.shape[1]):
                h = torch.tanh(h * 0.5 + past[len(past) - 1 - u] + past[u] - past[-1 - u])
            for u in range(len(past)):
                h = h + 0.1 * past[len(past) - 1 - u]
            past.append(h)
        return torch.stack(past, 1)


@program(batch)
class Pyramid(nn.Module):
    """Tensors of unlike shapes in a list, read back from its end, beside a loop over a length."""

    def forward(self, x):
        levels = []
        for k in range(3):
            levels.append(x[:, :, k:])
        total = torch.zeros_like(x[:, 0, 0])
        for k in range(len(levels)):
            for t in range(x.shape[1]):
                total = torch.tanh(total + levels[len(levels) - 1 - k][:, t].sum(1))
        return total


@program(batch)
class TwoListsTwice(nn.Module):
    def forward(self, x):
        a, b = [], []
        h = torch.zeros_like(x[:, 0])
        for t in range(x.shape[1]):
            h = h + x[:, t]
            a.append(h)
            b.append(h.sum(1))
            a.append(x[:, t])
        return torch.stack(a, 1), torch.cat(b, 0), a[-1], a[-2]


@program(batch)
class ReadsItsList(nn.Module):
    def forward(self, x):
        states = [torch.zeros_like(x[:, 0])]
        for t in range(x.shape[1]):
            states.append(torch.tanh(states[-1] + x[:, t]))
        return torch.stack(states[1:], 1)


@program()
class History(nn.Module):
    def forward(self, x):
        states = [x[0]]
        for t in range(1, x.shape[0]):
            past = torch.stack(states)
            weights = torch.softmax(past @ x[t], 0)
            states.append(weights @ past + x[t])
        return torch.stack(states)


@program()
class ListOfNumbers(nn.Module):
    def forward(self, x):
        picks: List[int] = []
        for t in range(x.shape[0]):
            picks.append(int(x[t].argmax()))
        return torch.tensor(picks), len(picks)


@program(batch)
class ListOfSizes(nn.Module):
    def forward(self, x):
        sizes = list(x.shape)
        if list(x[0].shape) != [sizes[1], 4]:
            raise ValueError("x must be (2, T, 4)")
        h = x[:, 0] * 0
        for t in range(sizes[1]):
            h = torch.tanh(h + x[:, t])
        return h * sizes[1]


@program(square, (4, 2, 7))
class InnerListStacked(nn.Module):
    def forward(self, x):
        table = []
        h = x[0, 0] * 0
        for i in range(x.shape[0]):
            line = []
            for j in range(x.shape[1]):
                h = torch.tanh(h + x[i, j])
                line.append(h)
            table.append(torch.stack(line))
        return torch.stack(table)


@program(square, (4, 2, 7))
class InnerAppendToOuterList(nn.Module):
    def forward(self, x):
        out = []
        for i in range(x.shape[0]):
            for j in range(x.shape[1]):
                out.append(x[i, j] * (i - j))
        return torch.stack(out).reshape(x.shape)


@program()
class AppendUnderIf(nn.Module):
    def forward(self, x):
        out = [x[0]]
        for t in range(1, x.shape[0]):
            if x[t].sum() > 0:
                out.append(x[t])
        return torch.stack(out)


# ---- in-place writes


@program()
class AugmentedWrite(nn.Module):
    def forward(self, x):
        h = torch.zeros_like(x[0])
        for t in range(x.shape[0]):
            h += x[t]
            if h.sum() > 1:
                h *= 0.5
        return h


@program()
class WritesThroughViews(nn.Module):
    def forward(self, x):
        y = x.clone()
        row = y[0]
        for t in range(1, x.shape[0]):
            row += y[t]
            y[t, 1:3] = row[0:2]
        return y, row


@program()
class Columns(nn.Module):
    def forward(self, x):
        y = x.clone()
        for t in range(1, x.shape[0]):
            y[t, 0] = y[t - 1, 0] + x[t, 1]
            y[t, 1:] *= 0.5
        return y


@program(batch, lengths=(5, 1, 0, 13))
class EveryRowWritten(nn.Module):
    """All rows of a table in order, those of one that has more, and numbers into integers."""

    def forward(self, x):
        h = x.sum(1)
        every, more = torch.zeros_like(x), torch.ones(x.shape[0], x.shape[1] + 1, x.shape[2])
        whole = torch.zeros(x.shape[1], x.shape[2], dtype=torch.int64)
        for t in range(x.shape[1]):
            h = torch.tanh(h + x[:, t])
            every[:, t] = h
            more[:, t] = h[0]
            whole[t] = (h[1] * 3).round()
        return every, more, whole


@program()
class MaskedWrite(nn.Module):
    def forward(self, x):
        y = x.clone()
        for t in range(x.shape[0]):
            row = y[t]
            row[row < 0] = 0.25
        return y


@program(square, (4, 2, 7))
class WarpTable(nn.Module):
    def forward(self, cost):
        n, m = cost.shape[0], cost.shape[1]
        dp = torch.full((n + 1, m + 1), float("inf"))
        dp[0, 0] = 0.0
        for i in range(n):
            for j in range(m):
                dp[i + 1, j + 1] = cost[i, j] + torch.min(torch.min(dp[i, j + 1], dp[i + 1, j]), dp[i, j])
        return dp[n, m], dp


@program(square, (4, 2, 7))
class Triangle(nn.Module):
    def forward(self, cost):
        dp = torch.zeros_like(cost)
        for i in range(1, cost.shape[0]):
            for j in range(i):
                dp[i, j] = dp[i - 1, j] + cost[i, j]
        return dp


@program(lambda n: (torch.randint(0, 3, (n,)), torch.randint(0, 3, (n + 1,))), (4, 2, 7))
class CommonSubsequence(nn.Module):
    def forward(self, a, b):
        n, m = a.shape[0], b.shape[0]
        dp = torch.zeros(n + 1, m + 1, dtype=torch.int64)
        for i in range(1, n + 1):
            for j in range(1, m + 1):
                if a[i - 1] == b[j - 1]:
                    dp[i, j] = dp[i - 1, j - 1] + 1
                else:
                    dp[i, j] = torch.maximum(dp[i - 1, j], dp[i, j - 1])
        return dp[n, m]


@program(lambda n: (torch.rand(n, n),), (4, 2, 6))
class ShortestPaths(nn.Module):
    def forward(self, d):
        d = d.clone()
        n = d.shape[0]
        for k in range(n):
            for i in range(n):
                d[i] = torch.minimum(d[i], d[i, k] + d[k])
        return d


@program(lambda n: (torch.randint(1, 4, (n,)), torch.rand(n)))
class Knapsack(nn.Module):
    def forward(self, weight, value):
        best = torch.zeros(9)
        for i in range(weight.shape[0]):
            w = int(weight[i])
            for c in range(8, w - 1, -1):
                best[c] = torch.maximum(best[c], best[c - w] + value[i])
        return best


@program(lambda n: (torch.randn(n),))
class BubbleSort(nn.Module):
    def forward(self, x):
        y = x.clone()
        n = y.shape[0]
        for i in range(n):
            for j in range(n - 1 - i):
                if y[j] > y[j + 1]:
                    kept = y[j].clone()
                    y[j] = y[j + 1]
                    y[j + 1] = kept
        return y


# ---- tables whose cells hang on earlier ones


def two_rows(n: int) -> Tuple[Tensor, ...]:
    return torch.randn(n, 4), torch.randn(n + 1, 4)


def two_words(n: int) -> Tuple[Tensor, ...]:
    return torch.randint(0, 5, (n,)), torch.randint(0, 5, (n + 1,))


@program(lambda n: (torch.rand(2, n, n + 2),), (4, 2, 7))
class SoftWarp(nn.Module):
    def forward(self, cost):
        n, m = cost.shape[1], cost.shape[2]
        dp = torch.full((cost.shape[0], n + 1, m + 1), 1e20)
        dp[:, 0, 0] = 0.0
        for i in range(n):
            for j in range(m):
                ways = torch.stack([dp[:, i, j], dp[:, i, j + 1], dp[:, i + 1, j]], 1)
                dp[:, i + 1, j + 1] = cost[:, i, j] - torch.logsumexp(-ways, 1)
        return dp[:, n, m]


@program(square, (4, 1, 7))
class FirstRowByBranch(nn.Module):
    """Reads `dp[i - 1]` where it is there alone."""

    def forward(self, cost):
        dp = torch.zeros_like(cost)
        for i in range(cost.shape[0]):
            for j in range(cost.shape[1]):
                if i == 0 and j == 0:
                    dp[i, j] = cost[i, j]
                elif i == 0:
                    dp[i, j] = cost[i, j] + dp[i, j - 1]
                elif j == 0:
                    dp[i, j] = cost[i, j] + dp[i - 1, j]
                else:
                    dp[i, j] = cost[i, j] + torch.min(dp[i - 1, j - 1], torch.min(dp[i - 1, j], dp[i, j - 1]))
        return dp


@program(two_rows, (5, 1, 9))
class WithinBand(nn.Module):
    """Python's `min` of tensors, the norm of a difference, and a condition on the counters."""

    def forward(self, x, y):
        n, m = x.shape[0], y.shape[0]
        dp = torch.full((n + 1, m + 1), float("inf"))
        dp[0, 0] = 0
        for i in range(1, n + 1):
            for j in range(1, m + 1):
                if abs(i - j) <= 2:
                    dp[i, j] = torch.norm(x[i - 1] - y[j - 1]) + min(dp[i - 1, j], dp[i, j - 1], dp[i - 1, j - 1])
        return dp[n, m]


@program(two_words, (5, 1, 9))
class Alignment(nn.Module):
    """Needleman and Wunsch's, with scores looked up."""

    def __init__(self):
        super().__init__()
        self.score, self.gap = nn.Parameter(torch.randn(5, 5)), nn.Parameter(torch.tensor(-1.0))

    def forward(self, a, b):
        dp = torch.zeros(a.shape[0] + 1, b.shape[0] + 1)
        for i in range(1, a.shape[0] + 1):
            dp[i, 0] = i * self.gap
        for i in range(1, a.shape[0] + 1):
            for j in range(1, b.shape[0] + 1):
                ways = [dp[i - 1, j - 1] + self.score[a[i - 1], b[j - 1]], dp[i - 1, j] + self.gap, dp[i, j - 1] + self.gap]
                dp[i, j] = torch.stack(ways).max()
        return dp[-1, -1], dp


@program(lambda n: (torch.randn(2, n, n + 1, 3),), (4, 1, 6))
class GridOfCells(nn.Module):
    """A recurrence over two axes."""

    def __init__(self):
        super().__init__()
        self.left, self.above = nn.Linear(3, 3), nn.Linear(3, 3, bias=False)

    def forward(self, x):
        h = torch.zeros(x.shape[0], x.shape[1] + 1, x.shape[2] + 1, 3)
        for i in range(x.shape[1]):
            for j in range(x.shape[2]):
                h[:, i + 1, j + 1] = torch.tanh(self.above(h[:, i, j + 1]) + self.left(h[:, i + 1, j]) + x[:, i, j])
        return h[:, 1:, 1:]


@program(lambda n: (torch.rand(3, n, n + 2),), (4, 1, 7))
class TableOfEach(nn.Module):
    def forward(self, cost):
        dp = torch.ones_like(cost)
        for k in range(cost.shape[0]):
            for j in range(1, cost.shape[2]):
                for i in range(1, cost.shape[1]):
                    dp[k, i, j] = dp[k, i - 1, j] * cost[k, i, j] + dp[k, i][j - 1]
        return dp


@program(two_rows, (5, 0, 9))
class Outer(nn.Module):
    """Cells that hang on no other."""

    def forward(self, x, y):
        found = torch.zeros(x.shape[0], y.shape[0])
        for i in range(x.shape[0]):
            for j in range(y.shape[0]):
                found[i, j] = (x[i] * y[j]).sum() + 0.5 * i
        return found


@program(lambda n: (torch.randn(n, 3),), (9, 1, 40))
class FewStates(nn.Module):
    """A long table of few columns."""

    def forward(self, x):
        dp = torch.zeros(x.shape[0] + 1, 4)
        for t in range(x.shape[0]):
            for s in range(3):
                dp[t + 1, s + 1] = torch.tanh(dp[t, s] + 0.5 * dp[t, s + 1] - x[t, s]).unsqueeze(0)
        return dp


@program(square, (4, 2, 7))
class AxisOfNumber(nn.Module):
    """A number has an axis 0, for torch."""

    def forward(self, cost):
        dp = torch.zeros(cost.shape[0] + 1, cost.shape[1] + 1)
        for i in range(cost.shape[0]):
            for j in range(cost.shape[1]):
                both = torch.stack([dp[i, j + 1], dp[i + 1, j]], -1).amin(-1)
                dp[i + 1, j + 1] = torch.logsumexp(cost[i, j], 0) + both.sum(-1) * torch.softmax(cost[i, j], 0)
        return dp


@program(square, (4, 2, 7))
class WrapsSometimes(nn.Module):
    """Of what is denied as a whole, one part may hold and another not."""

    def forward(self, cost):
        dp = torch.ones_like(cost)
        for i in range(cost.shape[0]):
            for j in range(cost.shape[1]):
                if i >= 0 and (i > 1 or cost[i, j] > 0.5) and j == 0:
                    dp[i, j] = cost[i, j]
                else:
                    dp[i, j] = cost[i, j] + dp[i, j - 1]
        return dp


@program(square, (4, 2, 7))
class WrapsRound(nn.Module):
    """`dp[i - 1]` of the first row is the last."""

    def forward(self, cost):
        dp = torch.ones_like(cost)
        for i in range(cost.shape[0]):
            for j in range(cost.shape[1]):
                dp[i, j] = cost[i, j] + dp[i - 1, j - 1]
        return dp


@program(square, (4, 2, 7))
class ReadsAhead(nn.Module):
    """The best of three cells of the row above, as a path down an image is sought."""

    def forward(self, cost):
        dp = torch.zeros(cost.shape[0] + 1, cost.shape[1] + 2)
        for i in range(cost.shape[0]):
            for j in range(cost.shape[1]):
                dp[i + 1, j + 1] = cost[i, j] + torch.min(torch.min(dp[i, j], dp[i, j + 1]), dp[i, j + 2])
        return dp


@program(lambda n: (torch.randint(0, 3, (n, n + 1)), torch.randn(9)), (4, 1, 7))
class IndexFromCell(nn.Module):
    def forward(self, moves, gains):
        dp = torch.zeros(moves.shape[0] + 1, moves.shape[1] + 1, dtype=torch.int64)
        for i in range(moves.shape[0]):
            for j in range(moves.shape[1]):
                dp[i + 1, j + 1] = (dp[i, j + 1] + dp[i + 1, j] + moves[i, j] + (gains[dp[i, j]] > 0).long()) % 9
        return dp


@program(square, (4, 2, 7))
class TwoWrites(nn.Module):
    def forward(self, cost):
        dp = torch.zeros(cost.shape[0] + 1, cost.shape[1] + 1)
        for i in range(cost.shape[0]):
            for j in range(cost.shape[1]):
                dp[i + 1, j + 1] = cost[i, j]
                dp[i + 1, j + 1] += torch.min(dp[i, j + 1], dp[i + 1, j])
        return dp


# ---- while, break, continue, early return, if


@program()
class WhileBoth(nn.Module):
    def forward(self, x):
        k = 0
        while bool(x.abs().max() > 0.1) and k < 10:
            x = x * 0.5
            k += 1
        return x, k


@program()
class Newton(nn.Module):
    def forward(self, x):
        y = x.abs() + 1
        error = torch.ones(())
        while error > 1e-4:
            new = 0.5 * (y + (x.abs() + 1) / y)
            error = (new - y).abs().max()
            y = new
        return y


@program()
class UnevenSteps(nn.Module):
    def forward(self, x):
        i = 0
        total = torch.zeros_like(x[0])
        while i < x.shape[0]:
            total = total + x[i]
            if total.sum() > 0:
                i += 2
            else:
                i += 1
        return total


@program(lambda n: (torch.randn(n).sort()[0],), (5, 1, 13))
class Bisection(nn.Module):
    def forward(self, x):
        low, high = 0, x.shape[0]
        while low < high:
            middle = (low + high) // 2
            if x[middle] < 0.0:
                low = middle + 1
            else:
                high = middle
        return low


@program()
class WhileAppends(nn.Module):
    def forward(self, x):
        out = []
        y = x
        while bool(y.abs().max() > 0.1):
            y = y * 0.5
            out.append(y.sum())
        return torch.stack(out)


@program()
class Break(nn.Module):
    def forward(self, x):
        h = torch.zeros_like(x[0])
        out = []
        for t in range(x.shape[0]):
            h = h + x[t]
            out.append(h)
            if h.sum() > 2:
                break
        return torch.stack(out), h


@program()
class Continue(nn.Module):
    def forward(self, x):
        h = torch.zeros_like(x[0])
        out = [h]
        for t in range(x.shape[0]):
            if x[t, 0] < 0:
                continue
            h = h * 0.5 + x[t]
            out.append(h)
        return torch.stack(out)


@program()
class EarlyReturn(nn.Module):
    def forward(self, x):
        h = torch.zeros_like(x[0])
        for t in range(x.shape[0]):
            h = h + x[t]
            if h.sum() > 2:
                return h * 2, t
        return h, -1


@program(square, (4, 2, 7))
class InnerBreak(nn.Module):
    def forward(self, x):
        total = torch.zeros(x.shape[0])
        for i in range(x.shape[0]):
            a = x[i, 0] * 0
            for j in range(x.shape[1]):
                a = a + x[i, j]
                if a > 1:
                    break
            total[i] = a
        return total


@program()
class Decisions(nn.Module):
    def __init__(self):
        super().__init__()
        self.up, self.down = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x):
        h, k = torch.zeros_like(x[0]), 0
        for t in range(x.shape[0]):
            if x[t].sum() > 1:
                h = torch.tanh(self.up(h) + x[t])
                k += 1
            elif h.sum() > 1:
                h = self.down(h)
            else:
                h = h - x[t]
        return h, k


@program()
class SequentialInside(nn.Module):
    def __init__(self):
        super().__init__()
        self.step = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))

    def forward(self, x):
        h = torch.zeros_like(x[0])
        for t in range(x.shape[0]):
            h = torch.tanh(self.step(h) + x[t])
        return h


@program()
class BranchOutsideLoops(nn.Module):
    def forward(self, x):
        if x.sum() > 0:
            y = x * 2
            for t in range(x.shape[0]):
                y = y + x[t]
        else:
            y = x - 1
        return y


@program()
class BranchOnSize(nn.Module):
    def forward(self, x):
        if x.shape[0] > 3:
            return x.sum(0)
        return x.mean(0) * 2


@program(batch, (8, 5, 6, 77, 7))
class AmongNumbers(nn.Module):
    """Sizes, and numbers counted in a loop, among others; quotients with their remainders."""

    def forward(self, x):
        scale = 3 if x.shape[1] in (5, 77) else 1
        whole, rest = divmod(x.shape[1], 3)
        y = x * (scale + whole) - rest
        total = torch.zeros_like(x[:, 0])
        for t in range(x.shape[1]):
            if t in [0, x.shape[1] - 2]:
                total = total + x[:, t]
        return y, total


@program(lambda n: (torch.rand(n, 4), torch.rand(n)), (6, 1, 11))
class Suppression(nn.Module):
    def forward(self, boxes, scores):
        left = torch.ones_like(scores, dtype=torch.bool)
        keep: List[Tensor] = []
        while bool(left.any()) and len(keep) < 4:
            i = torch.where(left, scores, torch.full_like(scores, -1.0)).argmax()
            keep.append(i)
            near = (boxes - boxes[i]).abs().sum(1) < 0.5
            left = left & ~near
        return torch.stack(keep)


@program(batch)
class GrowsByCat(nn.Module):
    def forward(self, x):
        h = x[:, :1]
        for t in range(1, x.shape[1]):
            h = torch.cat([h, x[:, t : t + 1] + h[:, -1:]], 1)
        return h


@program(lambda n: (torch.randint(0, 6, (2, n)),))
class GreedyDecode(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.cell, self.out = nn.Embedding(6, 4), nn.GRUCell(4, 4), nn.Linear(4, 6)

    def forward(self, prompt):
        h = torch.zeros(prompt.shape[0], 4)
        for t in range(prompt.shape[1]):
            h = self.cell(self.embed(prompt[:, t]), h)
        token = self.out(h).argmax(-1)
        tokens = [token]
        for _ in range(6):
            h = self.cell(self.embed(token), h)
            token = self.out(h).argmax(-1)
            tokens.append(token)
        return torch.stack(tokens, 1)


@program()
class OverlapAdd(nn.Module):
    def forward(self, x):
        out = torch.zeros(x.shape[0] + 3)
        for t in range(x.shape[0]):
            out[t : t + 4] += x[t]
        return out


@program()
class Tails(nn.Module):
    def forward(self, x):
        out = torch.zeros_like(x)
        for t in range(x.shape[0]):
            out[t:, 0] = x[t, 1]
            out[: t + 1, 1] += 0.5
        return out


@program(square, (4, 2, 7))
class NestedAppendUnderIf(nn.Module):
    def forward(self, x):
        out = [x[0, 0] * 0]
        for i in range(x.shape[0]):
            for j in range(x.shape[1]):
                if x[i, j] > 0.5:
                    out.append(x[i, j] + out[-1])
        return torch.stack(out)


@program()
class WhileTrue(nn.Module):
    def forward(self, x):
        out = [x[0] * 1]
        k = 0
        while True:
            if k >= x.shape[0]:
                break
            if x[k].sum() > 0:
                out.append(torch.tanh(out[-1] + x[k]))
            k += 1
        return torch.stack(out), k


@program()
class AppendInBranch(nn.Module):
    def forward(self, x):
        out = [x[0]]
        if x.sum() > 0:
            for t in range(x.shape[0]):
                out.append(x[t] * 2)
        return torch.stack(out)


@program(lengths=(5, 1, 16))
class MathOfNumbers(nn.Module):
    def forward(self, x):
        total, k = torch.zeros(4), 1
        for t in range(x.shape[0]):
            k = abs(k - 2 * t) % 5
            total = total + math.sqrt(k + 1) * x[t] - int(x[t].argmax())
        return total, k, round(0.5 * k)


@program()
class ConstantWritten(nn.Module):
    def forward(self, x):
        h = torch.zeros(4)
        for t in range(x.shape[0]):
            if x[t, 0] < 0:
                continue
            h[0] = x[t, 1]
            h = torch.tanh(h + torch.ones(4))
        return h


# ---- views that a loop carries


@program(batch, (8, 1, 2, 4, 16, 32))
class HalvedView(nn.Module):
    """Sums neighbours up a tree, in place, and adds what lies before each node on the way down."""

    def forward(self, x):
        y = x.clone()
        a = y
        size = a.size(1)
        while size > 1:
            a = a.view(a.size(0), size // 2, 2, -1)
            a[:, :, 1].add_(a[:, :, 0])
            a = a[:, :, 1]
            size = a.size(1)
        step = x.size(1) // 4
        while step >= 1:
            b = y[:, step - 1 :: step]
            b = b.view(b.size(0), b.size(1) // 2, 2, -1)
            b[:, 1:, 0] += b[:, :-1, 1]
            step = step // 2
        return y


@program(batch, (12, 1, 2, 3, 5, 6, 7))
class NarrowedView(nn.Module):
    """Carries a view that loses its first element, and reads it after the loop."""

    def forward(self, x):
        y = x.clone()
        rest = y
        for t in range(x.size(1) - 1):
            rest[:, 0] *= 0.5
            rest[:, 1] += rest[:, 0]
            rest = rest[:, 1:]
        return y, rest + 1, rest.size(1)


@program(batch, (8, 1, 2, 3, 4, 5, 7, 9, 33))
class LogOfSizes(nn.Module):
    def forward(self, x):
        levels = math.ceil(math.log2(x.size(1)))
        whole = 2 ** math.ceil(math.log2(x.size(1)))
        y = F.pad(x, (0, 0, 0, whole - x.size(1)), "constant", 1)
        for level in range(int(math.log2(whole))):
            y[:, 2**level - 1 :: 2**level] += level
        return y, levels, whole, math.log2(x.size(1)), 1 << levels


@program(batch, (8, 2, 4, 16))
class LeftAndRight(nn.Module):
    """Splits an axis with the pair before the half, and takes a window of what is left."""

    def forward(self, x):
        y = x.clone()
        a = y
        while a.size(1) > 1:
            halves = a.view(a.size(0), 2, a.size(1) // 2, 4)
            halves[:, 0, :, 1:3] -= halves[:, 1, :, :2]
            a = halves[:, 1]
        return y, a
