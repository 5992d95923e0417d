"""Steps of benchmarks/cuda.py: processes of their own, and networks loaded and exported in them."""

import multiprocessing
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any


def apart(limit: float, function: Callable[..., Any], *args: Any) -> Any:
    """Runs a function in a process of its own, which no other one's GPU memory or compiler touches; text says why there is no result."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_send, args=(sender, function, args))
    process.start()
    sender.close()
    try:
        return receiver.recv() if receiver.poll(limit) else f"> {limit:.0f} s"
    except EOFError:
        return "died"
    finally:
        process.kill()
        process.join()


def _send(sender: Any, function: Callable[..., Any], args: Sequence[Any]) -> None:
    try:
        sender.send(function(*args))
    except Exception as error:  # noqa: BLE001 - a row says what went wrong, and the next one follows
        text = str(error).strip().splitlines()
        sender.send(f"{type(error).__name__}: {text[0][:160] if text else ''}")


def load(file: Path, dtype: str = "float32") -> Any:
    """Loads a network as an export does, and casts what is float32 in it and in its example."""
    import torch

    from exportkit import load as loading

    _, live = loading.hold(str(file))
    kind = getattr(torch, dtype)
    live.module.to(kind)
    live.example = {name: value.to(kind) if value.dtype == torch.float32 else value for name, value in live.example.items()}
    live.check_inputs = []
    return live


def export(live: Any, to: Path, device: str) -> Any:
    """Exports a loaded network, and judges it on a device."""
    import exportkit

    positional, keywords = live.arguments(live.example)
    example = {**dict(zip((spec.name for spec in live.network.inputs), positional, strict=False)), **keywords} if keywords else positional
    options = {"provider": device, "allow_cpu_nodes": True, "keep_partial": True, "timeout": 900.0}
    return exportkit.export(live.module, example, dynamic_shapes=live.dynamic_shapes, to=to, name=live.network.name, **options)
