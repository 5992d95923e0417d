"""Thousands of damaged artifacts: none passes for the one that was published, none does harm (`make fuzz`)."""

import io
import random
import time
import zipfile
from pathlib import Path

import pytest

from exportkit import inspection, store
from exportkit.errors import RejectedError, StoreError
from exportkit.inspection import Inspection, Question
from exportkit.pipeline import Verdict

NET = Path(__file__).parents[2] / "benchmarks" / "networks" / "dynamic_viterbi.py"
MUTANTS, TURNS = 2_000, 10  # of each format
LONGEST = 30.0  # seconds that one answer may take


@pytest.fixture(scope="module")
def exported(tmp_path_factory, exportkit_in):
    folder = tmp_path_factory.mktemp("exported")
    done = exportkit_in(folder, "export", NET)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "artifacts" / NET.stem


def damaged(data, draw):
    """One to three faults: a bit, a byte at its ends, a run lost, repeated, moved or invented, a file cut short."""
    data = bytearray(data)
    for _ in range(draw.randint(1, 3)):
        place, length = draw.randrange(len(data) or 1), draw.choice((1, 1, 2, 4, 8, 64))
        run = bytes(data[place : place + length])
        match draw.randrange(7):
            case 0 | 1:
                data[place : place + 1] = bytes([data[place] ^ 1 << draw.randrange(8)]) if data else b""
            case 2:
                data[place : place + len(run)] = bytes([draw.choice((0x00, 0x7F, 0x80, 0xFF))]) * len(run)
            case 3:
                del data[place : place + length]
            case 4:
                data[place:place] = run * draw.choice((1, 2, 50))
            case 5:
                data[place:place] = draw.randbytes(length)
            case 6:
                other = draw.randrange(len(data) or 1)
                data[other : other + length] = run
    return bytes(data[: draw.randrange(len(data) or 1)] if draw.random() < 0.05 else data)


def mutate(content, suffix, draw):
    """Damages a file; of an archive half the time one record, under a checksum that fits: else the checksums find everything."""
    if suffix == ".onnx" or draw.random() < 0.5:
        return damaged(content, draw)
    packed = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(packed, "w") as new:
        chosen = draw.choice([info.filename for info in old.infolist() if info.file_size])
        for info in old.infolist():
            new.writestr(info.filename, damaged(old.read(info), draw) if info.filename == chosen else old.read(info))
    return packed.getvalue()


@pytest.mark.fuzz
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("turn", range(TURNS))
@pytest.mark.parametrize("suffix", [".pt", ".pt2", ".onnx"])
def test_damage_is_found_and_does_no_harm(exported, warm, tmp_path, monkeypatch, suffix, turn):
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.chdir(home)
    good = exported / f"{NET.stem}{suffix}"
    expected = store.read_manifest(exported)["files"][good.name]
    draw = random.Random(f"{suffix} {turn}")
    file = tmp_path / "bare" / good.name
    file.parent.mkdir()
    answers = {"rejected": 0, "read": 0, "compared": 0}
    for number in range(MUTANTS // TURNS):
        content = mutate(good.read_bytes(), suffix, draw)
        if content == good.read_bytes():
            continue
        file.write_bytes(content)
        with pytest.raises(StoreError):
            store.verify_file(file.parent, file.name, expected)
        started = time.monotonic()
        try:
            found = inspection.check(file, warm, Question())
            answers["read"] += 1
            if number % 5 == 0:  # the judge loads it, and takes longer
                compared = inspection.check(file, warm, Question(golden=exported / "golden.safetensors"))
                assert isinstance(compared, Verdict)
                answers["compared"] += 1
            assert isinstance(found, Inspection)
        except RejectedError:
            answers["rejected"] += 1
        assert time.monotonic() - started < LONGEST, f"mutant {number} took too long"
    assert answers["rejected"] > MUTANTS // TURNS // 10, answers
    assert list(home.iterdir()) == []
    assert [path.name for path in file.parent.iterdir()] == [good.name]
    print(suffix, turn, answers)
