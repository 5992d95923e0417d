"""Loops and branches of plain Python, kept as such in what torch.export captures."""

import copy

from torch import nn

from exportkit.control_flow.guardless import guardless
from exportkit.control_flow.lift import lift
from exportkit.control_flow.outline import outlined
from exportkit.control_flow.select import has_control_flow, modules_to_lift, scripted

__all__ = ["guardless", "has_control_flow", "lift", "lifted", "outlined", "scripted"]


def lifted(network: nn.Module) -> nn.Module:
    """Returns a network whose loops and branches torch.export takes: the modules that have some are replaced, all else is shared.

    Raises:
        ExportError: there is nothing to lift, or a construct cannot be lifted; names the user's line.
    """
    replaced = {name: lift(one) for name, one in modules_to_lift(network).items()}
    if "" in replaced:
        return replaced[""]
    return _with_modules(network, replaced)


def _with_modules(network: nn.Module, replaced: dict[str, nn.Module]) -> nn.Module:
    """Copies the modules on the way to those that are replaced, and no weights."""
    clone = copy.copy(network)
    clone._modules = dict(network._modules)  # noqa: SLF001 - copy.copy shares the dict of children
    for child, part in network._modules.items():  # noqa: SLF001
        inner = {name.partition(".")[2]: new for name, new in replaced.items() if name.partition(".")[0] == child}
        if "" in inner:
            clone._modules[child] = inner[""]  # noqa: SLF001
        elif inner and part is not None:
            clone._modules[child] = _with_modules(part, inner)  # noqa: SLF001
    return clone
