import torch

from layers.training.source_tagger import pieces
from layers.training.sources import CLASSES, classify, sources


def test_each_byte_has_the_class_of_its_token():
    source = b'if x:  # why\n    y = f\'{x!r} a\' + """b\nc""" * 1.5\n'
    classes, begins, spans = classify(source)
    shown = [(CLASSES[classes[begin]], source[begin:end].decode()) for begin, end in spans]
    assert shown == [
        ("keyword", "if"), ("name", "x"), ("operator", ":"), ("comment", "# why"), ("name", "y"), ("operator", "="),
        ("string", "f'{x!r} a'"), ("operator", "+"), ("string", '"""b\nc"""'), ("operator", "*"), ("number", "1.5"),
    ]  # fmt: skip
    covered = torch.zeros(len(source), dtype=torch.bool)
    for begin, end in spans:
        assert (classes[begin:end] == classes[begin]).all()
        covered[begin:end] = True
    assert (classes[~covered] == 0).all()
    assert begins == [0, 13, len(source)]


def test_a_form_feed_ends_no_line():
    classes, _, _ = classify(b"\x0c\nx = 1\n")
    assert [CLASSES[one] for one in classes] == ["space", "space", "name", "space", "operator", "space", "number", "space"]


def test_no_source_is_both_held_back_and_trained_on():
    held_back, others = sources(held_back=True), sources(held_back=False)
    assert len(held_back) > 8
    assert len(others) > 80
    assert not set(held_back) & set(others)


def test_pieces_are_whole_lines_from_the_beginning_of_a_statement():
    texts, tags, mask, owners = pieces(held_back=True)
    for text, on in zip(texts[::50], mask[::50], strict=True):
        line = bytes(text[on].tolist())
        assert line.endswith(b"\n")
        assert len(line) <= 96
    assert (tags[~mask] == 0).all()
    assert ((owners > 0) == (tags > 0))[mask].all()
