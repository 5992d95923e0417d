import ml_dtypes
import numpy as np
import pytest

from exportkit import golden

VALUES = {
    "a/x": np.arange(6, dtype=np.float32).reshape(2, 3),
    "a/scalar": np.float64(2.5).reshape(()),
    "a/half": np.ones(3, np.float16),
    "a/brain": np.array([1.5, -2], ml_dtypes.bfloat16),
    "a/complex": np.array([1 + 2j, 3], np.complex128),
    "a/flags": np.array([True, False]),
    "a/empty": np.zeros((0, 4), np.int64),
}


def test_every_dtype_comes_back_as_it_was_and_the_bytes_repeat(tmp_path):
    for name in ("one", "two"):
        golden.write(tmp_path / name, VALUES)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    reader = golden.Reader(tmp_path / "one")
    assert reader.names() == sorted(VALUES)
    for key, value in VALUES.items():
        back = reader.read(key)
        assert (back.dtype, back.shape) == (value.dtype, value.shape)
        assert back.tobytes() == value.tobytes()


def test_the_smallest_cases_are_kept_and_the_rest_named_with_seed_and_digest(tmp_path, monkeypatch):
    monkeypatch.setattr(golden, "LIMIT", 3000)
    for name, size in (("large", 4000), ("small", 10), ("medium", 200)):
        golden.write(tmp_path / f"{name}.safetensors", {f"{name}/x": np.zeros(size, np.float32)})
    left = golden.collect(tmp_path, [("large", 7), ("small", 8), ("medium", 9)], tmp_path / "golden")
    assert golden.Reader(tmp_path / "golden").names() == ["medium/x", "small/x"]
    assert left["large"]["seed"] == 7
    assert len(left["large"]["sha256"]) == 64


@pytest.mark.parametrize("size", [0, 8, 100])
def test_a_file_cut_short_is_no_golden_file(tmp_path, size):
    golden.write(tmp_path / "file", VALUES)
    (tmp_path / "cut").write_bytes((tmp_path / "file").read_bytes()[:size])
    with pytest.raises(Exception, match="(?i)header|deserializ|small|invalid"):
        golden.Reader(tmp_path / "cut")
