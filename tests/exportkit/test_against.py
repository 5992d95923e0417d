"""Whether a network can still be called as its artifacts are."""

from dataclasses import replace

import pytest

from exportkit.against import _digests, _signature
from exportkit.spec import Network, Source, TensorSpec

X, Y = TensorSpec("x", "float32", ("batch", 4)), TensorSpec("y", "float32", ("batch",))
NET = Network("net", (X,), {"leaf": "x"}, Source("net.py", "model", "aa", "bb"), (), (Y,), {"leaf": "y"})


def test_other_sizes_are_left_to_the_comparison_of_values():
    assert _signature(NET, replace(NET, inputs=(replace(X, shape=("rows", 5)),))) == ""


@pytest.mark.parametrize(
    ("now", "told"),
    [
        (replace(NET, inputs=(replace(X, name="z"),)), "takes z: float32 of rank 2 now, the artifacts x: float32 of rank 2"),
        (replace(NET, inputs=(X, replace(X, name="mask"))), "takes x: float32 of rank 2, mask: float32 of rank 2 now"),
        (replace(NET, outputs=(replace(Y, dtype="float64"),)), "returns y: float64 of rank 1 now"),
        (replace(NET, outputs=()), "returns nothing now"),
        (replace(NET, input_tree={"dict": {"x": {"leaf": "x"}}}), "another order or nesting"),
    ],
)
def test_another_signature_is_told_in_words(now, told):
    assert told in _signature(NET, now)


def test_another_source_is_a_note_and_other_weights_a_warning():
    assert list(_digests(NET, NET)) == []
    found = list(_digests(NET, replace(NET, source=Source("net.py", "model", "a2", "b2"))))
    assert [(one.severity, one.code) for one in found] == [("note", "source-changed"), ("warning", "weights-changed")]
