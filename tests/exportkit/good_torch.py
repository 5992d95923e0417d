"""Good .pt and .pt2 files, as torch itself and others' tools write them: every one must be read."""

import enum
import io
import warnings
import zipfile
from collections import OrderedDict
from typing import NamedTuple

import torch
from torch import nn

GOOD = {}


def good(maker):
    """Takes a maker that returns a file's bytes; the last part of its name is the file's suffix."""

    def made():
        torch.manual_seed(0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch's own, of what it wrote of old
            return maker()

    GOOD[maker.__name__] = made
    return maker


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(4, 3)
        self.register_buffer("scale", torch.arange(3))
        self.names = ["a", "b"]

    def forward(self, x, twice: bool = True):
        return self.layer(x) * self.scale if twice else self.layer(x)


class Sized(nn.Module):
    def forward(self, x):
        return torch.cat([x, x.new_zeros(x.shape[0] // 2 + 3, 4)]).reshape(-1)


class Mode(enum.Enum):
    PLAIN = 1
    TWICE = 2


class Pair(NamedTuple):
    first: torch.Tensor
    second: torch.Tensor


class Rich(nn.Module):
    """Enumerations, named tuples, constants, defaults, tied and strided weights, many element types."""

    scale: torch.jit.Final[float]
    sizes: torch.jit.Final[list[int]]

    def __init__(self):
        super().__init__()
        self.scale, self.sizes, self.mode = -0.5, [1, 2], Mode.TWICE
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)
        self.second.weight = self.first.weight
        self.register_buffer("turned", torch.randn(4, 6).t()[1:5, ::2])
        self.register_buffer("one", torch.randn(()).expand(4, 4))
        self.register_buffer("none", torch.zeros(0, 4))
        for dtype in (torch.float16, torch.bfloat16, torch.complex64, torch.bool, torch.int8):
            self.register_buffer(f"of_{str(dtype)[6:]}", torch.ones(3, dtype=dtype))

    def forward(self, x, shift: float = 1e-3, sizes: tuple[int, int] = (1, 2), name: str | None = "a('b"):
        pair = Pair(self.first(x), self.second(x) @ self.one)
        x = pair.first * self.scale + pair.second + shift
        return x * 2 if self.mode == Mode.TWICE else x


def scripted(net):
    stream = io.BytesIO()
    torch.jit.save(torch.jit.script(net), stream)
    return stream.getvalue()


def exported(net, *inputs, **options):
    stream = io.BytesIO()
    torch.export.save(torch.export.export(net, inputs, **options), stream)
    return stream.getvalue()


@good
def scripted_pt():
    return scripted(Net())


@good
def traced_pt():
    stream = io.BytesIO()
    torch.jit.save(torch.jit.trace(Net(), torch.randn(2, 4)), stream)
    return stream.getvalue()


@good
def frozen_pt():
    stream = io.BytesIO()
    torch.jit.save(torch.jit.freeze(torch.jit.script(Net().eval())), stream, _extra_files={"labels.txt": "a b"})
    return stream.getvalue()


@good
def rich_pt():
    return scripted(Rich())


@good
def sparse_pt():
    class Sparse(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("table", torch.eye(4).to_sparse())

        def forward(self, x):
            return torch.mm(self.table, x)

    return scripted(Sparse())


@good
def quantized_pt():
    class Quantized(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("table", torch.quantize_per_tensor(torch.randn(4, 3), 0.1, 2, torch.qint8))
            self.register_buffer("rows", torch.quantize_per_channel(torch.randn(4, 3), torch.ones(4), torch.zeros(4), 0, torch.quint8))

        def forward(self, x):
            return x + self.table.dequantize() + self.rows.dequantize()

    return scripted(Quantized())


@good
def repacked_pt():
    """As a zip tool packs it again: everything deflated, with times."""
    packed = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(scripted_pt())) as old, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as new:
        for info in old.infolist():
            new.writestr(info.filename, old.read(info))
    return packed.getvalue()


@good
def fixed_pt2():
    return exported(Net(), torch.randn(2, 4))


@good
def sized_pt2():
    return exported(Sized(), torch.randn(6, 4), dynamic_shapes=({0: torch.export.Dim("batch", min=2)},))


@good
def rich_pt2():
    return exported(Rich(), torch.randn(2, 4))


@good
def nested_pt2():
    """Dictionaries with keys that are no names, in order, within lists."""

    class Nested(nn.Module):
        def forward(self, x, *, other):
            return OrderedDict([("the sum", x["a b"][0] + other), ("pair", [x["a b"][1]])])

    values = [torch.randn(2), torch.randn(2)]
    return exported(Nested(), {"a b": values}, kwargs={"other": torch.randn(2)})


@good
def branches_pt2():
    class Branches(nn.Module):
        def forward(self, x):
            return torch.cond(x.sum() > 0, lambda x: x.sin(), lambda x: x.cos(), (x,))

    return exported(Branches(), torch.randn(3))


def write(name, folder, content=lambda name: GOOD[name]()):
    """Writes a good file; returns it."""
    folder.mkdir(parents=True, exist_ok=True)
    stem, _, suffix = name.rpartition("_")
    file = folder / f"{stem}.{suffix}"
    file.write_bytes(content(name))
    return file
