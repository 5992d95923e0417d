"""The standard library's own sources as bytes, and the class of each byte by the standard library's own tokenizer."""

import io
import keyword
import sysconfig
import token as tokens
import tokenize
import zlib
from pathlib import Path

import torch

CLASSES = ("space", "name", "keyword", "number", "string", "operator", "comment")
LARGEST = 60_000  # bytes of a file that is taken: large ones are tables


def sources(held_back: bool) -> list[bytes]:
    """Returns the modules of the standard library's top folder that are ASCII, by name; a tenth is held back, by a checksum of the name.

    They hang on the version of Python; which of them are held back does not.
    """
    folder = Path(sysconfig.get_paths()["stdlib"])
    files = sorted(file for file in folder.glob("*.py") if (zlib.crc32(file.name.encode()) % 10 == 0) == held_back)
    texts = [file.read_bytes() for file in files]
    return [text for text in texts if text.isascii() and len(text) <= LARGEST and b"\r" not in text]


def classify(source: bytes) -> tuple[torch.Tensor, list[int], list[tuple[int, int]]]:
    """Returns each byte's class, (N,), the places where statements begin, and the tokens as (begin, end)."""
    text = source.decode("ascii")
    lines = [0]
    for line in text.split("\n"):  # not splitlines: a form feed ends no line of Python
        lines.append(lines[-1] + len(line) + 1)
    classes, begins, spans = torch.zeros(len(text), dtype=torch.int64), [0], []
    begin_of_string, depth = 0, 0
    for one in tokenize.generate_tokens(io.StringIO(text).readline):
        begin, end = lines[one.start[0] - 1] + one.start[1], min(lines[one.end[0] - 1] + one.end[1], len(text))
        name = tokens.tok_name[one.type]
        if name == "NEWLINE":
            begins.append(end)
        # From 3.12 on the parts of an f-string are tokens; here it is one string, as before.
        if name == "FSTRING_START":
            begin_of_string, depth = (begin, 1) if depth == 0 else (begin_of_string, depth + 1)
        elif name == "FSTRING_END":
            depth -= 1
            name, begin = "STRING", begin_of_string
        kind = {"NAME": 1, "NUMBER": 3, "STRING": 4, "OP": 5, "COMMENT": 6}.get(name, 0)
        if depth or not kind:
            continue
        classes[begin:end] = 2 if kind == 1 and keyword.iskeyword(one.string) else kind
        spans.append((begin, end))
    return classes, begins, spans


def windows(texts: list[bytes], size: int) -> torch.Tensor:
    """Cuts sources into windows of bytes, (N, size), int64; the rest of each is left out."""
    rows = [torch.tensor(list(text[: len(text) // size * size])).view(-1, size) for text in texts if len(text) >= size]
    return torch.cat(rows)
