"""What becomes of hostile and of good files by class: outcome, time and memory of `exportkit check FILE`.

    python benchmarks/hostile.py [CLASS ...]

The files are those of the tests: each maker of tests/exportkit/hostile_onnx.py and hostile_torch.py writes one, and must be rejected; each
of good_onnx.py must run, each of good_torch.py be read. Memory is the largest resident set of any child of the checking process, watched
every 5 ms. Ends with 1 where a file of one kind is taken for the other, or needs more than 30 s or 1 GiB.
"""

import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Self

import psutil

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "exportkit"))

import good_onnx
import good_torch
import hostile_onnx
import hostile_torch

from exportkit import inspection
from exportkit.errors import RejectedError
from exportkit.inspection import Question
from exportkit.worker import Host

MOST_SECONDS, MOST_BYTES = 30.0, 1 << 30


@dataclass
class Outcome:
    name: str
    right: bool
    seconds: float
    memory: int


class Watch:
    """The largest resident set of any child while it is open."""

    def __enter__(self) -> Self:
        self.peak, self.open = 0, True
        self.thread = threading.Thread(target=self._look)
        self.thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.open = False
        self.thread.join()

    def _look(self) -> None:
        while self.open:
            for child in psutil.Process().children(recursive=True):
                try:
                    self.peak = max(self.peak, child.memory_info().rss)
                except psutil.Error:
                    continue
            time.sleep(0.005)


def check(server: Host, file: Path, *, hostile: bool) -> Outcome:
    started = time.monotonic()
    with Watch() as watch:
        try:
            right = inspection.check(file, server, Question()).outcome in ("runs", "read") and not hostile
        except RejectedError:
            right = hostile
    return Outcome(file.parent.name, right, time.monotonic() - started, watch.peak)


def files() -> Iterator[tuple[str, str, bool, Callable[[Path], Path]]]:
    """Yields each file's class, name, whether it is hostile, and what writes it into a folder."""
    content = cache(lambda name: good_torch.GOOD[name]())
    for name, maker in {**hostile_onnx.READING, **hostile_onnx.RUNTIME}.items():
        yield f".onnx {name.split('_')[0]}", name, True, partial(good_onnx.write, maker)
    for name, case in hostile_torch.HOSTILE.items():
        yield f".{case.seed.split('_')[1]} {name.split('_')[0]}", name, True, partial(hostile_torch.write, name, good=content)
    for name, maker in good_onnx.GOOD.items():
        yield ".onnx good", name, False, partial(good_onnx.write, maker)
    for name in good_torch.GOOD:
        yield f".{name.split('_')[1]} good", name, False, partial(good_torch.write, name, content=content)


def main(wanted: list[str]) -> int:
    found: dict[str, list[Outcome]] = defaultdict(list)
    with Host.start(inspection.RUNNING + inspection.READING) as server, tempfile.TemporaryDirectory() as folder:
        for kind, name, hostile, write in files():
            if not wanted or kind.split()[1] in wanted:
                found[kind].append(check(server, write(Path(folder) / name), hostile=hostile))
    print(f"{'class':<20} {'files':>5} {'right':>5} {'median s':>9} {'most s':>7} {'most MiB':>9}")
    bad: list[Outcome] = []
    for kind, some in found.items():
        seconds, most = sorted(one.seconds for one in some), max(one.memory for one in some) >> 20
        right = sum(one.right for one in some)
        print(f"{kind:<20} {len(some):>5} {right:>5} {seconds[len(some) // 2]:>9.2f} {seconds[-1]:>7.2f} {most:>9}")
        bad += [one for one in some if not one.right or one.seconds > MOST_SECONDS or one.memory > MOST_BYTES]
    for one in bad:
        print(f"{one.name}: {'right' if one.right else 'WRONG'}, {one.seconds:.1f} s, {one.memory >> 20} MiB")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
