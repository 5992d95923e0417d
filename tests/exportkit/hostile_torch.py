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

import good_torch
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

# --- pickles that call, wherever they lie -------------------------------------------------------------------------------------------------

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


# --- tensors that reach beyond what is stored, or nest without end ------------------------------------------------------------------------


def _pickled(data, fault):
    """Changes bytes of the pickle of parameters."""
    old, new = fault

    def content(pickled):
        assert pickled.count(old) == 1
        return pickled.replace(old, new)

    return replaced(data, "archive/data.pkl", content)


LEAST, HUGE = b"J\xff\xff\xff\xff", b"J\x00\x00\x00\x7f"  # -1, 2**31 - 2**24
WEIGHT = b"K\x00(K\x03K\x04t(K\x04K\x01t"  # offset 0, size (3, 4), strides (4, 1)
KEY = b"X\x05\x00\x00\x00names"
each(
    "tensors",
    "scripted_pt",
    "data.pkl",
    _pickled,
    {
        "storage_longer": (b"K\x0ctQ", HUGE + b"tQ"),
        "storage_shorter": (b"K\x0ctQ", b"K\x04tQ"),
        "storage_negative": (b"K\x0ctQ", LEAST + b"tQ"),
        "storage_elsewhere": (b"X\x01\x00\x00\x001q", b"X\x0b\x00\x00\x00../data.pklq"),
        "element_wider": (b"torch\nFloatStorage", b"torch\nDoubleStorage"),
        "element_unknown": (b"torch\nFloatStorage", b"torch\nVastStorage"),
        "element_by_number": (b"ctorch\nFloatStorage\n", b"K\x06"),
        "call_by_number": (b"weightq\x13h\x02", b"weightq\x13K\x01"),
        "offset": (WEIGHT, WEIGHT.replace(b"K\x00(", b"K\x01(")),
        "offset_negative": (WEIGHT, WEIGHT.replace(b"K\x00(", LEAST + b"(")),
        "stride": (WEIGHT, WEIGHT.replace(b"t(K\x04", b"t(" + HUGE)),
        "stride_negative": (WEIGHT, WEIGHT.replace(b"t(K\x04", b"t(" + LEAST)),
        "size": (WEIGHT, WEIGHT.replace(b"(K\x03", b"(" + HUGE)),
        "rank": (WEIGHT, WEIGHT.replace(b"(K\x03", b"(")),
        "without_end": (WEIGHT, b"K\x00(" + HUGE * 2 + b"t(K\x00K\x00t"),
        "memo": (b"}(X\x05\x00\x00\x00scale", b"}r\xff\xff\xff\x7f(X\x05\x00\x00\x00scale"),
        "deep": (KEY, b"X\x01\x00\x00\x00a)" + b"\x85" * 100_000 + KEY),
        "deep_type": (b"X\x09\x00\x00\x00List[str]", b"X\x09\xc4\x09\x00" + (b"List[" * 130_000)[:640_009]),
    },
)
each("tensors", "quantized_pt", "scales", _pickled, {"few_scales": (b"q\x13K\x00(K\x04t", b"q\x13K\x00(K\x02t")})
each(
    "tensors",
    "sparse_pt",
    "index beyond",
    lambda data, places: replaced(data, "data/0", struct.pack("<8q", *places)),
    {"sparse_index": (0, 1, 2, 10**9, 0, 1, 2, 3), "sparse_index_negative": (0, 1, 2, 3, 0, 1, 2, -7)},
)
each(
    "tensors",
    "sized_pt2",
    "sample_inputs",
    lambda data, content: replaced(data, "sample_inputs/model.pt", content),
    {"sample_longer": rewritten(saved(WEIGHTS), lambda name, old: [(name, old.replace(b"K\x03t", b"K\x7ft"))])},
)

# --- code that loading evaluates, or that reaches out by another spelling -----------------------------------------------------------------

each(
    "code",
    "scripted_pt",
    ".py'",
    lambda data, lines: replaced(data, "good_torch.py", lambda old: old + lines.encode()),
    {
        "default": "  def f(self, x: int=__torch__.g()) -> int:\n    return x\ndef g() -> int:\n  return 1\n",
        "default_operator": "  def f(self, x: Tensor=torch.ones([99999, 99999])) -> Tensor:\n    return x\n",
        "constant": "class B(Module):\n  x : Final[int] = __torch__.g()\n",
        "constant_operator": "class B(Module):\n  x : Final[Tensor] = torch.ones([99999, 99999])\n",
        "enumeration": "class B(Enum):\n  A = __torch__.g()\n",
        "default_of_a_tuple": "class B(NamedTuple):\n  x : int = __torch__.g()\n",
        "spaces": "  def f(self) -> Tensor:\n    return torch . from_file('/etc/passwd', False, 10)\n",
        "lines": "  def f(self) -> Tensor:\n    return (ops.\n      aten.from_file)('/etc/passwd', False, 10)\n",
        "by_getattr": "  def f(self) -> Tensor:\n    return getattr(torch, 'from_file')('/etc/passwd', False, 10)\n",
        "by_getattr_of_aten": "  def f(self) -> Tensor:\n    return getattr(ops.aten, 'from_file')('/etc/passwd', False, 10)\n",
        "by_another_name": "  def f(self) -> Tensor:\n    t = torch\n    return t.from_file('/etc/passwd', False, 10)\n",
        "writes_a_file": "  def f(self) -> NoneType:\n    return torch.save([1], 'canary')\n",
        "reads_a_tensor": "  def f(self) -> Tensor:\n    return ops.debugprims.load_tensor('x', [1], [1])\n",
        "setstate_among_strings": '  x : str = """\'"""\n  def __setstate__(self, x: int) -> int:\n    return x # \'\n',
        "sum_without_end": "  def f(self) -> int:\n    return " + "+".join(["1"] * 50_000) + "\n",
        "minus_without_end": "  def f(self) -> int:\n    return " + "-" * 50_000 + "1\n",
    },
)

# --- archives that two readers see in two ways --------------------------------------------------------------------------------------------

each(
    "records",
    "fixed_pt2",
    "twice",
    added,
    {"other_case": "archive/data/weights/Weight_0", "other_case_of_json": "archive/models/MODEL.json"},
)
each("records", "scripted_pt", "two names", lambda data, name: added(data, _named(name)), {"zero_byte": "archive/version\0.txt"})


def _named(name):
    info = zipfile.ZipInfo("x")
    info.filename = info.orig_filename = name
    return info


def _extra(data, extra):
    info = zipfile.ZipInfo("archive/extra/x")
    info.extra = extra
    return added(data, info)


SIZES = struct.pack("<2H2Q", 1, 16, 1, 1)
each(
    "headers",
    "scripted_pt",
    "twice",
    _extra,
    {"unicode_path": struct.pack("<2HBL", 0x7075, 18, 1, 0) + b"archive/x.txt", "sizes_twice": SIZES + SIZES},
)


def _ended(data, fault):
    """Puts 64-bit records of a directory between it and its end."""
    data = plain(data)
    end = data.index(b"PK\5\6")
    count, size, place = struct.unpack_from("<HLL", data, end + 10)
    told = {"count": count, "size": size, "place": place, "at": end} | fault
    record = struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, told["count"], told["count"], told["size"], told["place"])
    return data[:end] + record + struct.pack("<4sLQL", b"PK\6\7", 0, told["at"], 1) + data[end:]


each(
    "headers",
    "scripted_pt",
    "",
    _ended,
    {
        "end_elsewhere": {"at": 30},
        "end_of_another_count": {"count": 1},
        "end_of_another_size": {"size": 46},
        "end_of_another_place": {"place": 0},
    },
)
each(
    "headers",
    "scripted_pt",
    "",
    _patched,
    {"local_extra_over_the_next": (b"PK\3\4", 28, "<H", 400), "two_ends": (b"PK\1\2", 0, "<4s", b"PK\5\6")},
)


def _gap(data, content):
    """Bytes between the directory and its end: the directory may lie in two places."""
    data = plain(data)
    end = data.index(b"PK\5\6")
    return data[:end] + content + data[end:]


each("headers", "scripted_pt", "", _gap, {"gap_before_the_end": b"x" * 46})

# --- weights that a list calls raw, and torch unpickles -----------------------------------------------------------------------------------


def _listed(data, fault):
    """Adds a constant of evil content, and what lists say of it."""
    name, listed, *others = fault

    def change(old, kept):
        yield old, json.dumps({"config": dict(enumerate(listed))}).encode() if old.endswith("model_constants_config.json") else kept
        if old.endswith("byteorder"):
            yield f"archive/data/constants/{name}", EVIL
            for model, entries in others:
                yield f"archive/data/constants/{model}_constants_config.json", json.dumps({"config": dict(enumerate(entries))}).encode()

    return rewritten(data, change)


def _entry(name, use_pickle):
    return {"path_name": name, "is_param": False, "use_pickle": use_pickle, "tensor_meta": None}


each(
    "weights",
    "fixed_pt2",
    "",
    _listed,
    {
        "opaque_called_raw": ("opaque_obj_0", [_entry("opaque_obj_0", False)]),
        "object_called_raw": ("custom_obj_0", [_entry("custom_obj_0", False)]),
        "of_old_called_raw": ("model.pt", [_entry("model.pt", False)]),
        "raw_and_pickled": ("tensor_0", [_entry("tensor_0", False), _entry("tensor_0", True)]),
        "of_another_model": ("tensor_0", [_entry("tensor_0", False)], ("other", [_entry("tensor_0", True)])),
        "called_json": ("evil.json", [_entry("evil.json", True)]),
        "elsewhere": ("tensor_0", [_entry("tensor_0", False), _entry("../../extra/x", True)]),
    },
)


def _scripted_within(data, line):
    """torch.load takes a file with constants.pkl for TorchScript, and loads it as such."""
    within = rewritten(good_torch.GOOD["scripted_pt"](), lambda name, old: [(name, old + line if name.endswith(".py") else old)])
    return replaced(data, "sample_inputs/model.pt", within)


each(
    "samples", "sized_pt2", "sample_inputs", _scripted_within, {"torchscript": b"  def __setstate__(self, x: int) -> int:\n    return x\n"}
)

# --- names that torch writes into code that it runs ---------------------------------------------------------------------------------------

RUNS = "__import__('os').system('touch canary')"


def _renamed(data, names):
    old, new = (json.dumps(name).encode() for name in names)
    return rewritten(data, lambda name, kept: [(name, kept.replace(old, new) if name.endswith(".json") else kept)])


each(
    "names",
    "fixed_pt2",
    "written into code",
    _renamed,
    {
        "input_default": ("x", f"x={RUNS}"),
        "input_body": ("x", f"x):\n  {RUNS}\n  def f(self"),
        "node": ("linear", f"linear={RUNS}"),
        "weight": ("layer.weight", f'weight", {RUNS}) #'),
        "buffer": ("scale", f'scale", {RUNS}) #'),
    },
)
each("names", "fixed_pt2", "forward_arg_names", setting("forward_arg_names"), {"argument": [f"x={RUNS}"], "no_list": f"x={RUNS}"})
each(
    "names",
    "fixed_pt2",
    "range_constraints",
    setting("range_constraints"),
    {"many_symbols": {"u99999999999": {"min_val": 0, "max_val": 9}}},
)

# --- trees of inputs and outputs ----------------------------------------------------------------------------------------------------------

LEAF = {"type": None, "context": None, "children_spec": []}


def _spec(kind, context, keywords="[]"):
    children = [
        {"type": kind, "context": context, "children_spec": [LEAF]},
        {"type": "builtins.dict", "context": keywords, "children_spec": []},
    ]
    return json.dumps([1, {"type": "builtins.tuple", "context": "null", "children_spec": children}])


def _factory(module, name):
    return {"default_factory_module": module, "default_factory_name": name, "dict_context": ["a"]}


for key in ("in_spec", "out_spec"):
    each(
        f"trees_{key.partition('_')[0]}",
        "fixed_pt2",
        key,
        setting(key),
        {
            "imports_a_module": _spec("collections.defaultdict", _factory("antigravity", "webbrowser")),
            "takes_a_function": _spec("collections.defaultdict", _factory("builtins", "breakpoint")),
            "enumeration": _spec("builtins.dict", json.dumps([{"__enum__": True, "fqn": "antigravity:x", "name": "x"}])),
            "enumeration_indented": _spec("builtins.dict", ' [{"__enum__": true, "fqn": "antigravity:x", "name": "x"}]'),
            "enumeration_escaped": _spec("builtins.dict", '[{"\\u005f_enum__": true, "fqn": "antigravity:x", "name": "x"}]'),
            "no_json": "[",
            "number": 5,
            "nested": "[1, " + "[" * 3000,
        },
    )
each("trees", "fixed_pt2", "in_spec", setting("in_spec"), {"keyword": _spec("builtins.tuple", "null", json.dumps([f"x={RUNS}"]))})

# --- more of text, operators, models ------------------------------------------------------------------------------------------------------

each(
    "sizes",
    "sized_pt2",
    "bomb of a number",
    setting("expr_str"),
    {
        "power": "9**9**9**9",
        "power_of_integers": "Pow(Integer(9), Pow(Integer(9), Integer(9)))",
        "power_of_products": "Pow(Integer(2), Mul(Integer(64), Integer(64), Integer(64)))",
        "shift": "LShift(Integer(1), Integer(99999999999))",
        "float": "floor(Float('1e999999999'))",
        "digits": "9" * 4000,
    },
)


def _argument(data, name):
    return edited(data, lambda told: told["graph_module"]["graph"]["nodes"][0]["inputs"][0].update(arg={"as_operator": name}))


each("operators", "fixed_pt2", "as_operator", _argument, {"as_argument": "torch.hub.load"})
each(
    "operators",
    "sized_pt2",
    "target",
    setting("target"),
    {"reads_a_tensor": "torch.ops.debugprims.load_tensor.default", "writes_memory": "torch.ops.inductor._reinterpret_tensor.default"},
)
each("format", "fixed_pt2", "archive_format", lambda data, text: replaced(data, "archive_format", text), {"other": b"pt3"})


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
