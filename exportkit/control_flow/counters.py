"""Two counters of nested loops: how an index hangs on them, and between what they lie under the conditions around."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from exportkit.control_flow.facts import Facts
from exportkit.control_flow.graph import Node

Bounds = tuple[int, int]
_MOST = 2**63
_OPPOSITE = {"eq": "ne", "ne": "eq", "lt": "ge", "ge": "lt", "le": "gt", "gt": "le"}


@dataclass(frozen=True, slots=True)
class Known:
    """What holds at a place of the source.

    Attributes:
        bounds: the least and the greatest value of each counter.
        denied: pairs of conditions that do not hold both.
    """

    bounds: tuple[Bounds, Bounds] = ((0, _MOST), (0, _MOST))
    denied: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Counters:
    facts: Facts
    names: tuple[str, str]

    def moved(self, index: str) -> tuple[int, int] | None:
        """Splits an index into the number of a counter and a constant that is added to it."""
        base, more = self.facts.offset(index)
        node = self.facts.made.get(base)
        if node is not None and node.kind == "aten::__derive_index" and self.facts.constant(node.inputs[2]) == 1:
            start = self.facts.constant(node.inputs[1])
            if isinstance(start, int):
                base, more = node.inputs[0], more + start
        return (self.names.index(base), more) if base in self.names else None

    def under(self, known: Known, flag: str, *, holds: bool) -> Known:
        """Tells what holds besides where a condition does, or does not: `if i == 0: ... else: table[i - 1]`."""
        for node, true in self.facts.implied(flag, holds=holds):
            known = self._with(known, node, holds=true)
        if not holds:
            known = replace(known, denied=(*known.denied, *self._pairs(flag)))
        for a, b in known.denied:
            for one, other in ((a, b), (b, a)):
                if self._surely(known, one):
                    for node, true in self.facts.implied(other, holds=False):
                        known = self._with(known, node, holds=true)
        return known

    def _pairs(self, flag: str) -> Iterator[tuple[str, str]]:
        """Yields the two sides of `a and b`."""
        node = self.facts.made.get(flag)
        if node is not None and node.kind == "aten::__and__":
            yield node.inputs[0], node.inputs[1]
        elif node is not None and node.kind == "prim::If":
            then, other = (block.outputs[node.outputs.index(flag)] for block in node.blocks)
            if self.facts.constant(other) is False:
                yield node.inputs[0], then

    def _surely(self, known: Known, flag: str) -> bool:
        """Says whether a comparison holds: its opposite leaves a counter no value."""
        node = self.facts.made.get(flag)
        return node is not None and any(low > high for low, high in self._with(known, node, holds=False).bounds)

    def _with(self, known: Known, node: Node, *, holds: bool) -> Known:
        told = self._compared(node, holds=holds)
        if told is None:
            return known
        counter, operator, number = told
        low, high = known.bounds[counter]
        if operator in ("gt", "ge", "eq"):
            low = max(low, number + (operator == "gt"))
        if operator in ("lt", "le", "eq"):
            high = min(high, number - (operator == "lt"))
        if operator == "ne":
            low, high = low + (low == number), high - (high == number)
        bounds = list(known.bounds)
        bounds[counter] = (low, high)
        return replace(known, bounds=(bounds[0], bounds[1]))

    def _compared(self, node: Node, *, holds: bool) -> tuple[int, str, int] | None:
        """Reads `counter + c < number` as a counter, an operator and a number."""
        if node.operator not in _OPPOSITE:
            return None
        moved, number = self.moved(node.inputs[0]), self.facts.constant(node.inputs[1])
        if moved is None or not isinstance(number, int):
            return None
        return moved[0], node.operator if holds else _OPPOSITE[node.operator], number - moved[1]
