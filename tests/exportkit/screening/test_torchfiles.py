""".pt and .pt2 files from elsewhere: read, never loaded. Each hostile one would run code, or deceive one of two readers."""

import io
import json
import pickle
import struct
import subprocess
import zipfile

import pytest
import torch
from torch import nn

from exportkit.errors import RejectedError
from exportkit.screening.torchfiles import screen_pt2, screen_torchscript


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


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Good files of torch's own: scripted, traced, exported."""
    folder = tmp_path_factory.mktemp("saved")
    torch.jit.save(torch.jit.script(Net()), folder / "scripted.pt")
    torch.jit.save(torch.jit.trace(Net(), torch.randn(2, 4)), folder / "traced.pt")
    torch.export.save(torch.export.export(Net(), (torch.randn(2, 4),)), folder / "fixed.pt2")
    batch = torch.export.Dim("batch", min=2)
    torch.export.save(torch.export.export(Sized(), (torch.randn(6, 4),), dynamic_shapes=({0: batch},)), folder / "sized.pt2")
    return folder


def read(file):
    return (screen_torchscript if file.suffix == ".pt" else screen_pt2)(file)


@pytest.mark.parametrize("name", ["scripted.pt", "traced.pt", "fixed.pt2", "sized.pt2"])
def test_files_of_torch_itself_are_read(saved, name):
    assert read(saved / name).facts["records"] > 5


def rewritten(source, target, change):
    """Copies an archive; `change` gets (name, content) of each record, and returns the records that stand in its place."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for info in old.infolist():
            for name, content in change(info.filename, old.read(info)):
                new.writestr(name, content)
    return target


def replaced(saved, tmp_path, source, part, content):
    """One record has other content; `content` may be a function of the old one."""

    def change(name, old):
        yield name, (content(old) if callable(content) else content) if name.endswith(part) else old

    return rewritten(saved / source, tmp_path / source, change)


def added(saved, tmp_path, source, name, content=b"x"):
    def change(old, data):
        yield old, data
        if old.endswith("byteorder"):
            yield name, content

    return rewritten(saved / source, tmp_path / source, change)


class Evil:
    """Makes a file when it is unpickled."""

    def __init__(self, canary):
        self.canary = canary

    def __reduce__(self):
        return subprocess.check_call, (["touch", str(self.canary)],)


def rejected(file):
    with pytest.raises(RejectedError) as caught:
        read(file)
    assert caught.value.what.isprintable()
    return caught.value.what


@pytest.mark.parametrize("part", ["scripted/data.pkl", "constants.pkl", ".py.debug_pkl"])
@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_pickle_that_calls_is_rejected_wherever_it_lies(saved, tmp_path, part, protocol):
    evil = pickle.dumps(Evil(tmp_path / "canary"), protocol=protocol)
    assert "import" in rejected(replaced(saved, tmp_path, "scripted.pt", part, evil))
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize(
    "evil",
    [
        b"cos\nsystem\n.",
        b"cbuiltins\neval\n.",
        b"ctorch\nload\n.",
        b"ctorch.hub\nload\n.",
        b"ctorch._utils\n_rebuild_tensor_v2\n" + b"0cposix\nsystem\n.",
        b"(S'id'\nios\nsystem\n.",
        b"\x80\x02\x8c\x02os\x8c\x06system\x93.",
        b"\x80\x02\x82\x01.",
        b"c__torch__.torch.classes.profiling\nRecord\n.",
        b"",
        b"\x80\x02",
        b"\x80\x02N.cos\nsystem\n.",
        b"\xff\xff\xff",
        b"\x80\x02\x8a\xff" + bytes(20),
    ],
)
def test_names_outside_of_the_list_and_damaged_pickles_are_rejected(saved, tmp_path, evil):
    assert rejected(replaced(saved, tmp_path, "scripted.pt", "scripted/data.pkl", evil))


@pytest.mark.parametrize(
    "line",
    [
        "  def __setstate__(self, state: int) -> NoneType:\n    return None\n",
        "  def f(self) -> Tensor:\n    return torch.from_file('/etc/passwd', False, 10)\n",
        "  def f(self) -> Tensor:\n    return ops.aten.from_file('/etc/passwd', False, 10)\n",
        "  x : __torch__.torch.classes.dist_rpc.WorkerInfo\n",
        "  def f(self) -> int:\n    return " + "(" * 5000 + "1" + ")" * 5000 + "\n",
        "  def f(self) -> int:\n    return (1\n",
        "\0",
        "\udcff",
    ],
)
def test_code_that_runs_while_loading_or_reaches_out_is_rejected(saved, tmp_path, line):
    content = lambda old: old + line.encode(errors="surrogateescape")  # noqa: E731 - read where it is used
    assert rejected(replaced(saved, tmp_path, "scripted.pt", ".py", content))


def test_a_string_that_looks_like_brackets_is_no_code(saved, tmp_path):
    content = lambda old: old + b"  def f(self) -> str:\n    return '((((" + b"(" * 300 + b"'\n"  # noqa: E731
    read(replaced(saved, tmp_path, "scripted.pt", ".py", content))


@pytest.mark.parametrize(
    "name",
    [
        "scripted/../../evil",
        "/etc/evil",
        "scripted/..\\evil",
        "scripted//evil",
        "elsewhere/data.pkl",
        "scripted/evil.so",
        "scripted/a\x1bb",
        "scripted/sub/",
    ],
)
def test_records_that_lie_elsewhere_are_rejected(saved, tmp_path, name):
    assert rejected(added(saved, tmp_path, "scripted.pt", name))


def test_a_record_given_twice_is_rejected(saved, tmp_path):
    with pytest.warns(UserWarning, match="Duplicate"):
        file = added(saved, tmp_path, "scripted.pt", "scripted/data.pkl", b"N.")
    assert "twice" in rejected(file)


def test_a_link_in_the_archive_is_rejected(saved, tmp_path):
    info = zipfile.ZipInfo("scripted/extra/link")
    info.external_attr = 0o120777 << 16
    assert "no plain file" in rejected(added(saved, tmp_path, "scripted.pt", info, b"/etc/passwd"))


def test_a_bomb_is_rejected(saved, tmp_path):
    file = tmp_path / "bomb.pt"
    with zipfile.ZipFile(saved / "scripted.pt") as old, zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as new:
        for info in old.infolist():
            new.writestr(info.filename, old.read(info))
        new.writestr("scripted/code/__torch__/bomb.py", bytes(300 << 20))
    assert "bomb" in rejected(file)


def _change_at(data, mark, offset, form, content):
    place = data.index(mark)
    out = bytearray(data)
    struct.pack_into(form, out, place + offset, content)
    return bytes(out)


@pytest.mark.parametrize(
    ("mark", "offset", "form", "content"),
    [
        (b"PK\3\4", 14, "<L", 0x12345678),  # CRC of the record's own header
        (b"PK\3\4", 18, "<L", 5),  # sizes of the record's own header
        (b"PK\3\4", 22, "<L", 2**31),
        (b"PK\3\4", 8, "<H", 8),  # its method
        (b"PK\3\4", 30, "<B", 0x58),  # its name
        (b"PK\1\2", 16, "<L", 0x12345678),  # the directory's CRC
        (b"PK\1\2", 20, "<L", 2**31),
        (b"PK\1\2", 24, "<L", 5),
        (b"PK\1\2", 10, "<H", 99),
        (b"PK\1\2", 8, "<H", 1),
        (b"PK\1\2", 42, "<L", 2**31),
        (b"PK\1\2", 42, "<L", 7),
        (b"PK\5\6", 10, "<H", 3),
        (b"PK\5\6", 16, "<L", 0),
        (b"PK\5\6", 20, "<H", 9),
    ],
)
def test_headers_that_disagree_are_rejected(saved, tmp_path, mark, offset, form, content):
    plain = rewritten(saved / "scripted.pt", tmp_path / "plain.pt", lambda name, data: [(name, data)])
    (tmp_path / "changed.pt").write_bytes(_change_at(plain.read_bytes(), mark, offset, form, content))
    assert rejected(tmp_path / "changed.pt")


@pytest.mark.parametrize(
    "change",
    [lambda d: d[:-1], lambda d: d[: len(d) // 2], lambda d: b"#!/bin/sh\n" + d, lambda d: d + d, lambda d: d + b"x", lambda d: b""],
)
def test_archives_cut_or_joined_are_rejected(saved, tmp_path, change):
    (tmp_path / "changed.pt").write_bytes(change((saved / "scripted.pt").read_bytes()))
    assert rejected(tmp_path / "changed.pt")


def test_a_flipped_bit_of_a_weight_is_found(saved, tmp_path):
    data = bytearray((saved / "scripted.pt").read_bytes())
    with zipfile.ZipFile(saved / "scripted.pt") as archive:
        place = archive.getinfo("scripted/data/1").header_offset
    data[place + 100] ^= 1
    (tmp_path / "changed.pt").write_bytes(data)
    assert rejected(tmp_path / "changed.pt")


def test_what_torch_save_wrote_is_no_torchscript(tmp_path):
    torch.save(Net().state_dict(), tmp_path / "weights.pt")
    torch.save(Net().state_dict(), tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    assert "no TorchScript" in rejected(tmp_path / "weights.pt")
    assert "no whole zip" in rejected(tmp_path / "old.pt")


def edited(saved, tmp_path, change):
    def content(old):
        data = json.loads(old)
        change(data)
        return json.dumps(data).encode()

    return replaced(saved, tmp_path, "sized.pt2", "models/model.json", content)


def _set_everywhere(data, key, value):
    for one in data.values() if isinstance(data, dict) else data:
        if isinstance(one, dict | list):
            _set_everywhere(one, key, value)
    if isinstance(data, dict) and key in data:
        data[key] = value


EVIL = [
    "__import__('os').system('id')", "().__class__.__bases__", "open('x')", "eval('1')", "[c for c in L]",
    "(lambda: 1)()", "L['x'].__class__",
    "Symbol('s0').subs", "exec", "Symbol('a b')", "s0; import os", "f'{s0}'", "(" * 3000 + "s0" + ")" * 3000, "s0 :=", 5,
]  # fmt: skip


@pytest.mark.parametrize("text", EVIL)
def test_text_of_sizes_that_is_code_is_rejected(saved, tmp_path, text):
    assert "expr_str" in rejected(edited(saved, tmp_path, lambda data: _set_everywhere(data, "expr_str", text)))


@pytest.mark.parametrize("text", EVIL)
def test_guards_that_are_code_are_rejected(saved, tmp_path, text):
    assert "guards_code" in rejected(edited(saved, tmp_path, lambda data: data.update(guards_code=["L['x'].size()[0] >= 2", text])))


@pytest.mark.parametrize(
    "target",
    [
        "torch.load",
        "torch.hub.load",
        "torch.ops.load_library",
        "os.system",
        "torch.ops.aten.from_file.default",
        "torch.ops.aten.add.__call__",
        3,
    ],
)
def test_operators_that_are_none_are_rejected(saved, tmp_path, target):
    assert "target" in rejected(edited(saved, tmp_path, lambda data: _set_everywhere(data, "target", target)))


def _saved_evil(canary):
    stream = io.BytesIO()
    torch.save(Evil(canary), stream)
    return stream.getvalue()


def test_sample_inputs_that_call_are_rejected(saved, tmp_path):
    for content in (_saved_evil(tmp_path / "canary"), pickle.dumps(Evil(tmp_path / "canary"))):
        assert "sample_inputs" in rejected(replaced(saved, tmp_path, "sized.pt2", "sample_inputs/model.pt", content))
    assert not (tmp_path / "canary").exists()


def test_weights_called_pickled_are_read_as_such(saved, tmp_path):
    def change(name, old):
        if name.endswith("model_weights_config.json"):
            yield name, old.replace(b'"use_pickle": false', b'"use_pickle": true')
        else:
            yield name, _saved_evil(tmp_path / "canary") if name.endswith("weight_0") else old

    assert "weight_0" in rejected(rewritten(saved / "fixed.pt2", tmp_path / "fixed.pt2", change))


def test_constants_that_no_list_names_are_read_as_pickles(saved, tmp_path):
    assert "tensor_9" in rejected(
        added(saved, tmp_path, "fixed.pt2", "fixed/data/constants/tensor_9", pickle.dumps(Evil(tmp_path / "canary")))
    )


@pytest.mark.parametrize("name", ["fixed/data/aotinductor/model/a.so", "fixed/models/run.py", "fixed/code.py"])
def test_native_code_and_unknown_records_are_rejected(saved, tmp_path, name):
    assert "no part" in rejected(added(saved, tmp_path, "fixed.pt2", name))


@pytest.mark.parametrize("content", [b"{", b"\xff", b"[" * 10000, b'{"a": 1, "a": 2}'])
def test_models_that_are_no_json_are_rejected(saved, tmp_path, content):
    assert rejected(replaced(saved, tmp_path, "fixed.pt2", "models/model.json", content))
