"""A verdict as JSON, for programs."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class JsonReporter:
    """Renders strict JSON with sorted keys: the same summary gives the same bytes."""

    def render(self, summary: Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> str:
        """Renders one summary, or a list of them.

        JSON has no NaN and no infinity: they become the strings "NaN", "Infinity" and "-Infinity", which Python's and JavaScript's
        number constructors read.
        """
        return json.dumps(_finite(summary), indent=1, sort_keys=True, ensure_ascii=False, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, Mapping):
        return {key: _finite(child) for key, child in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(child) for child in value]
    return value


PLUGIN = JsonReporter()
