"""A structured log: one JSON object a line."""

import datetime as dt
import json
import sys
import time
from typing import Any, TextIO

_MOST = 20  # lines a second about clients: a flood of bad requests must fill no disk


class Journal:
    """Writes what happens, each line whole.

    Args:
        stream: None for stderr.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stderr
        self._second = 0
        self._written = 0
        self._left_out = 0

    def write(self, level: str, event: str, **fields: Any) -> None:
        """Writes one line; values are JSON's."""
        when = dt.datetime.now(dt.UTC).isoformat(timespec="milliseconds")
        print(json.dumps({"time": when, "level": level, "event": event, **fields}), file=self._stream, flush=True)

    def refused(self, protocol: str, model: str, status: int, reason: str) -> None:
        """Writes that a request was refused, up to so many lines a second; the next line says how many were left out."""
        now = int(time.monotonic())
        if now != self._second:
            self._second, self._written = now, 0
        if self._written >= _MOST:
            self._left_out += 1
            return
        self._written += 1
        more = {"left_out": self._left_out} if self._left_out else {}
        self._left_out = 0
        level = "error" if status >= 500 and status not in (503, 504) else "warning"  # noqa: PLR2004 - HTTP's classes
        self.write(level, "request refused", protocol=protocol, model=model, status=status, reason=reason, **more)
