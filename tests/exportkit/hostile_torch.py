"""Malformed and hostile .pt and .pt2 files, one maker a file, by the class of what is wrong. Every one must be rejected, and none loaded.

Each is a good file (`good_torch.py`) with one fault. What runs would leave a file "canary" in the working folder.
"""

import io
import json
import pickle
import struct
import subprocess
import zipfile
from collections.abc import Callable
from typing import NamedTuple

import torch


class Case(NamedTuple):
    """One hostile file.

    Attributes:
        seed: the good file that it is made of; the end of its name is the suffix of both.
        word: what its rejection says.
        make: gets the good file's bytes.
    """

    seed: str
    word: str
    make: Callable[[bytes], bytes]


HOSTILE: dict[str, Case] = {}


def each(prefix, seed, word, make, faults):
    """Adds one case a fault; `make(data, fault)` puts it into the good file."""
    for name, fault in faults.items():
        HOSTILE[f"{prefix}_{name}"] = Case(seed, word, lambda data, fault=fault: make(data, fault))


def rewritten(data, change, **options):
    """Copies an archive; `change` gets (name, content) of each record, and yields the records that stand in its place."""
    packed = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(packed, "w", **options) as new:
        for info in old.infolist():
            for name, content in change(info.filename, old.read(info)):
                if not isinstance(name, str) or name not in new.NameToInfo:
                    new.writestr(name, content)
                else:  # twice, without the warning
                    del new.NameToInfo[name]
                    new.writestr(name, content)
    return packed.getvalue()


def replaced(data, part, content):
    """One record has other content; `content` may be a function of the old one."""

    def change(name, old):
        yield name, (content(old) if callable(content) else content) if name.endswith(part) else old

    return rewritten(data, change)


def added(data, name, content=b"x"):
    def change(old, kept):
        yield old, kept
        if old.endswith("byteorder"):
            yield name, content

    return rewritten(data, change)


class Evil:
    def __reduce__(self):
        return subprocess.check_call, (["touch", "canary"],)


def saved(content):
    stream = io.BytesIO()
    torch.save(content, stream)
    return stream.getvalue()


EVIL = pickle.dumps(Evil(), protocol=2)

# --- pickles that call, wherever they lie ---------------------------------------------------------------------------------------------

PICKLED = ("archive/data.pkl", "constants.pkl", ".py.debug_pkl")
each(
    "pickles",
    "scripted_pt",
    "import",
    lambda data, fault: replaced(data, fault[0], pickle.dumps(Evil(), protocol=fault[1])),
    {f"{part.split('.')[-2].rpartition('/')[2]}_{protocol}": (part, protocol) for part in PICKLED for protocol in (0, 2, 4)},
)
each(
    "pickles",
    "scripted_pt",
    "record 'data.pkl'",
    lambda data, evil: replaced(data, "archive/data.pkl", evil),
    {
        "system": b"cos\nsystem\n.",
        "eval": b"cbuiltins\neval\n.",
        "load": b"ctorch\nload\n.",
        "hub": b"ctorch.hub\nload\n.",
        "second_name": b"ctorch._utils\n_rebuild_tensor_v2\n0cposix\nsystem\n.",
        "inst": b"(S'id'\nios\nsystem\n.",
        "from_the_stack": b"\x80\x02\x8c\x02os\x8c\x06system\x93.",
        "extension": b"\x80\x02\x82\x01.",
        "native_class": b"c__torch__.torch.classes.profiling\nRecord\n.",
        "empty": b"",
        "cut": b"\x80\x02",
        "joined": b"\x80\x02N.cos\nsystem\n.",
        "no_opcodes": b"\xff\xff\xff",
        "long_number": b"\x80\x02\x8a\xff" + bytes(20),
    },
)

# --- code ---------------------------------------------------------------------------------------------------------------------------------

each(
    "code",
    "scripted_pt",
    ".py'",
    lambda data, lines: replaced(data, ".py", lambda old: old + lines.encode(errors="surrogateescape")),
    {
        "setstate": "  def __setstate__(self, state: int) -> NoneType:\n    return None\n",
        "reads_a_file": "  def f(self) -> Tensor:\n    return torch.from_file('/etc/passwd', False, 10)\n",
        "reads_by_operator": "  def f(self) -> Tensor:\n    return ops.aten.from_file('/etc/passwd', False, 10)\n",
        "native_class": "  x : __torch__.torch.classes.dist_rpc.WorkerInfo\n",
        "nested": "  def f(self) -> int:\n    return " + "(" * 5000 + "1" + ")" * 5000 + "\n",
        "open_bracket": "  def f(self) -> int:\n    return (1\n",
        "zero_byte": "\0",
        "no_utf8": "\udcff",
    },
)

# --- records that lie elsewhere, twice, or are no files -----------------------------------------------------------------------------------

each(
    "records",
    "scripted_pt",
    "",
    added,
    {
        "up": "archive/../../evil",
        "absolute": "/etc/evil",
        "backslash": "archive/..\\evil",
        "empty_part": "archive//evil",
        "other_folder": "elsewhere/data.pkl",
        "library": "archive/evil.so",
        "escape": "archive/a\x1bb",
        "folder": "archive/sub/",
    },
)
each("records", "scripted_pt", "twice", lambda data, name: added(data, name, b"N."), {"twice": "archive/data.pkl"})


def _link(data, name):
    info = zipfile.ZipInfo(name)
    info.external_attr = 0o120777 << 16
    return added(data, info, b"/etc/passwd")


each("records", "scripted_pt", "no plain file", _link, {"link": "archive/extra/link"})
each(
    "records",
    "fixed_pt2",
    "no part",
    added,
    {
        "native_code": "archive/data/aotinductor/model/a.so",
        "python_among_models": "archive/models/run.py",
        "python": "archive/code.py",
    },
)

# --- bombs --------------------------------------------------------------------------------------------------------------------------------


def _bomb(data, size):
    def change(name, old):
        yield name, old
        if name.endswith("byteorder"):
            yield "archive/code/__torch__/bomb.py", bytes(size)

    return rewritten(data, change, compression=zipfile.ZIP_DEFLATED, compresslevel=1)


each("bombs", "scripted_pt", "bomb", _bomb, {"deflated": 257 << 20})

# --- headers that disagree, archives cut or joined ----------------------------------------------------------------------------------------


def plain(data):
    """Written by Python: torch's own has 64-bit fields."""
    return rewritten(data, lambda *one: [one])


def _patched(data, fault):
    mark, offset, form, content = fault
    out = bytearray(plain(data))
    struct.pack_into(form, out, out.index(mark) + offset, content)
    return bytes(out)


each(
    "headers",
    "scripted_pt",
    "",
    _patched,
    {
        "local_crc": (b"PK\3\4", 14, "<L", 0x12345678),
        "local_packed": (b"PK\3\4", 18, "<L", 5),
        "local_size": (b"PK\3\4", 22, "<L", 2**31),
        "local_method": (b"PK\3\4", 8, "<H", 8),
        "local_name": (b"PK\3\4", 30, "<B", 0x58),
        "crc": (b"PK\1\2", 16, "<L", 0x12345678),
        "packed": (b"PK\1\2", 20, "<L", 2**31),
        "size": (b"PK\1\2", 24, "<L", 5),
        "method": (b"PK\1\2", 10, "<H", 99),
        "encrypted": (b"PK\1\2", 8, "<H", 1),
        "place_beyond": (b"PK\1\2", 42, "<L", 2**31),
        "place": (b"PK\1\2", 42, "<L", 7),
        "count": (b"PK\5\6", 10, "<H", 3),
        "directory": (b"PK\5\6", 16, "<L", 0),
        "comment": (b"PK\5\6", 20, "<H", 9),
    },
)
each(
    "headers",
    "scripted_pt",
    "",
    lambda data, change: change(data),
    {
        "cut": lambda data: data[:-1],
        "half": lambda data: data[: len(data) // 2],
        "script_before": lambda data: b"#!/bin/sh\n" + data,
        "joined": lambda data: data + data,
        "byte_after": lambda data: data + b"x",
        "empty": lambda data: b"",
    },
)


def _flipped(data, part):
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        place = next(info.header_offset for info in archive.infolist() if info.filename.endswith(part))
    return data[: place + 100] + bytes([data[place + 100] ^ 1]) + data[place + 101 :]


each("headers", "scripted_pt", "damaged", _flipped, {"flipped_weight": "data/1"})

# --- other formats under the name ---------------------------------------------------------------------------------------------------------

WEIGHTS = {"w": torch.ones(3)}
HOSTILE["format_state_dict"] = Case("scripted_pt", "no TorchScript", lambda _: saved(WEIGHTS))
HOSTILE["format_old_state_dict"] = Case("scripted_pt", "no whole zip", lambda _: _saved_before(WEIGHTS))


def _saved_before(content):
    stream = io.BytesIO()
    torch.save(content, stream, _use_new_zipfile_serialization=False)
    return stream.getvalue()


# --- text of sizes and guards, which torch evaluates as Python ----------------------------------------------------------------------------

TEXTS = {
    "import": "__import__('os').system('touch canary')",
    "dunder": "().__class__.__bases__",
    "open": "open('x')",
    "eval": "eval('1')",
    "comprehension": "[c for c in L]",
    "lambda": "(lambda: 1)()",
    "class": "L['x'].__class__",
    "attribute": "Symbol('s0').subs",
    "exec": "exec",
    "two_words": "Symbol('a b')",
    "statement": "s0; import os",
    "format": "f'{s0}'",
    "nested": "(" * 3000 + "s0" + ")" * 3000,
    "cut": "s0 :=",
    "number": 5,
}


def edited(data, change):
    """Changes the JSON of a model in place."""

    def content(old):
        told = json.loads(old)
        change(told)
        return json.dumps(told).encode()

    return replaced(data, "models/model.json", content)


def set_everywhere(told, key, value):
    for one in told.values() if isinstance(told, dict) else told:
        if isinstance(one, dict | list):
            set_everywhere(one, key, value)
    if isinstance(told, dict) and key in told:
        told[key] = value


def setting(key):
    return lambda data, value: edited(data, lambda told: set_everywhere(told, key, value))


each("sizes", "sized_pt2", "expr_str", setting("expr_str"), TEXTS)
each(
    "guards",
    "sized_pt2",
    "guards_code",
    lambda data, text: edited(data, lambda told: told.update(guards_code=["L['x'].size()[0] >= 2", text])),
    TEXTS,
)

# --- operators ----------------------------------------------------------------------------------------------------------------------------

each(
    "operators",
    "sized_pt2",
    "target",
    setting("target"),
    {
        "load": "torch.load",
        "hub": "torch.hub.load",
        "library": "torch.ops.load_library",
        "system": "os.system",
        "reads_a_file": "torch.ops.aten.from_file.default",
        "dunder": "torch.ops.aten.add.__call__",
        "number": 3,
    },
)

# --- weights, constants and sample inputs, which torch unpickles --------------------------------------------------------------------------

each(
    "samples",
    "sized_pt2",
    "sample_inputs",
    lambda data, content: replaced(data, "sample_inputs/model.pt", content),
    {"saved": saved(Evil()), "pickled": EVIL},
)


def _called_pickled(data, content):
    def change(name, old):
        if name.endswith("model_weights_config.json"):
            yield name, old.replace(b'"use_pickle": false', b'"use_pickle": true')
        else:
            yield name, content if name.endswith("weight_0") else old

    return rewritten(data, change)


each("weights", "fixed_pt2", "weight_0", _called_pickled, {"called_pickled": saved(Evil())})
each(
    "weights",
    "fixed_pt2",
    "tensor_9",
    lambda data, content: added(data, "archive/data/constants/tensor_9", content),
    {"that_no_list_names": EVIL},
)

# --- JSON ---------------------------------------------------------------------------------------------------------------------------------

each(
    "json",
    "fixed_pt2",
    "",
    lambda data, content: replaced(data, "models/model.json", content),
    {"cut": b"{", "no_utf8": b"\xff", "nested": b"[" * 10000, "key_twice": b'{"a": 1, "a": 2}'},
)


def write(name, folder, good):
    """Writes a hostile file; returns it.

    Args:
        good: gives the bytes of a good file by its name.
    """
    folder.mkdir(parents=True, exist_ok=True)
    case = HOSTILE[name]
    file = folder / f"m.{case.seed.rpartition('_')[2]}"
    file.write_bytes(case.make(good(case.seed)))
    return file
