"""Writes .pt: TorchScript, from the network's source where it compiles, else from a trace."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.jit._trace import TracedModule

from exportkit.capture import Captures, Options, refuse_other_beyond
from exportkit.spec import Artifact


def write_scripted(captures: Captures, folder: Path, options: Options) -> Artifact:  # noqa: ARG001 - every strategy's signature
    return _save(captures.scripted(), captures.name, folder, "scripted")


def write_traced(captures: Captures, folder: Path, options: Options) -> Artifact:  # noqa: ARG001
    module = _following(captures.traced())
    refuse_other_beyond(captures, module)
    return captures.with_decisions(_save(module, captures.name, folder, "traced"))


def write_simplified(captures: Captures, folder: Path, options: Options) -> Artifact:  # noqa: ARG001
    module = _following(captures.traced_export())
    refuse_other_beyond(captures, module)
    return _save(module, captures.name, folder, "simplified")


def _following(module: Any) -> Any:
    """Makes a trace ask its inputs for the device, where it wrote down the one that it saw: it would run nowhere else.

    What is scripted inside of it stays as the user wrote it.
    """
    for part in module.modules():
        if isinstance(part, TracedModule):
            for method in part._c._method_names():  # noqa: SLF001 - torch has no public way; a part called twice has two
                _follow(part._c._get_method(method).graph)  # noqa: SLF001
    return module


def _follow(graph: Any) -> None:
    tensor = next((value for value in graph.inputs() if value.type().kind() == "TensorType"), None)
    blocks, seen = [graph], []
    while blocks and tensor:
        for node in blocks.pop().nodes():
            blocks += node.blocks()
            if node.kind() == "prim::Constant" and node.output().type().kind() == "DeviceObjType" and node.s("value") == "cpu":
                seen.append(node.output())
    if not seen:
        return
    device = graph.create("prim::device", [tensor])
    device.output().setType(torch._C.DeviceObjType.get())  # noqa: SLF001 - torch has no public name for it
    graph.prependNode(device)
    for constant in seen:
        for use in [one for one in constant.uses() if not _wants_the_host(one.user)]:
            use.user.replaceInput(use.offset, device.output())


def _wants_the_host(node: Any) -> bool:
    """Says whether a device is compared, or lengths are moved to where packing wants them on every device."""
    readers = {use.user.kind() for output in node.outputs() for use in output.uses()}
    return node.kind() in ("aten::eq", "aten::ne") or "aten::_pack_padded_sequence" in readers


def _save(module: Any, name: str, folder: Path, strategy: str) -> Artifact:
    """Saves, and copies the archive record by record without its debug records: they hold the author's paths, and vary."""
    file = f"{name}.pt"
    raw = folder / f"{name}.raw.pt"
    torch.jit.save(module, raw)
    reader = torch._C.PyTorchFileReader(str(raw))  # noqa: SLF001 - the archive's own reader; torch has no public one
    writer = torch._C.PyTorchFileWriter(str(folder / file))  # noqa: SLF001
    for record in reader.get_all_records():
        # The writer adds the version and an id over the content itself. Of an older version than its code, integer division truncates.
        if record in ("version", ".data/version"):
            writer.set_min_version(int(reader.get_record(record)))
        elif not record.endswith(".debug_pkl") and record not in ("byteorder", ".data/serialization_id"):
            content = reader.get_record(record)
            writer.write_record(record, content, len(content))
    writer.write_end_of_file()
    del reader
    raw.unlink()
    return Artifact("torchscript", (file,), strategy, facts={"operators": _operators(module)})


def _operators(module: Any) -> dict[str, int]:
    """Counts the operators, loops and branches of forward, with all that it calls."""
    counts: Counter[str] = Counter()
    graph = module.inlined_graph  # made anew, and its blocks end with it
    blocks = [graph]
    while blocks:
        for node in blocks.pop().nodes():
            if not node.kind().startswith("prim::") or node.kind() in ("prim::Loop", "prim::If"):
                counts[node.kind()] += 1
            blocks += node.blocks()
    return dict(sorted(counts.items()))


@dataclass(frozen=True, slots=True)
class TorchScript:
    suffix: str = ".pt"
    strategies: tuple[tuple[str, Any], ...] = (("scripted", write_scripted), ("traced", write_traced), ("simplified", write_simplified))


PLUGIN = TorchScript()
