"""The models of a server: which are there, which are ready, loading and unloading. A model is replaced while requests go on.

A request keeps the queue that it found: the old model answers what it took, the new one what comes after.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from exportkit.errors import ExportKitError
from exportkit.serving.answers import RequestError, shown
from exportkit.serving.batches import Cores, Queue
from exportkit.serving.journal import Journal
from exportkit.serving.metrics import Metrics
from exportkit.serving.models import VERSION, Model
from exportkit.serving.options import Options

Loader = Callable[[Path], Model]


@dataclass(slots=True)
class Entry:
    """A name that is served.

    Attributes:
        queue: None while it is unloaded.
        fault: why it is not ready; "" where it is.
    """

    folder: Path
    queue: Queue | None
    fault: str = ""


class Catalog:
    """The models by name.

    Args:
        loader: checks a folder and loads it; takes seconds, and runs on a thread of its own. None where clients may not load.

    Attributes:
        draining: the server ends; nothing is ready any more, and what is asked is still answered.
        waits: why the server is not ready yet; "" where it is.
        canary: replays a model's golden cases, and spoils the model where they fail; None where that is not asked for.
    """

    def __init__(self, models: list[Model], loader: Loader | None, options: Options, metrics: Metrics, journal: Journal) -> None:
        self.options, self.metrics, self.journal = options, metrics, journal
        self.draining = False
        self.waits = ""
        self.canary: Callable[[str], Awaitable[None]] | None = None
        self.cores = Cores()
        self._loader = loader
        self._changing = asyncio.Lock()
        self._entries = {model.name: Entry(model.folder, self._queue(model)) for model in models}

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def known(self, name: str) -> str:
        """Returns the name where it is one that is served, else "": a label of a count must not be a client's."""
        return name if name in self._entries else ""

    def find(self, name: str, version: str = "") -> Queue:
        """Returns the queue of a model that is ready to run.

        Raises:
            RequestError: there is none, not of this version, or it is not ready.
        """
        entry = self._entry(name, version)
        if entry.queue is None or entry.fault:
            raise RequestError(503, f"model {name} is not ready: {entry.fault}", retry=1)
        return entry.queue

    def ready(self, name: str = "", version: str = "") -> bool:
        """Says whether the server (no name) or a model is ready.

        Raises:
            RequestError: there is no such model or version.
        """
        entries = [self._entry(name, version)] if name else self._entries.values()
        if self.draining or (self.waits and not name):
            return False
        return not any(entry.fault and (name or entry.queue) for entry in entries)  # what was unloaded on purpose is no fault of the server

    def index(self, *, ready: bool = False) -> list[dict[str, str]]:
        """Lists the models as the protocol's repository extension does."""
        listed = [
            {"name": name, "version": VERSION, "state": "UNAVAILABLE" if entry.fault else "READY", "reason": entry.fault}
            for name, entry in self._entries.items()
        ]
        return [one for one in listed if one["state"] == "READY" or not ready]

    async def load(self, name: str) -> None:
        """Checks a folder again and serves what is in it now; the model that is there goes on until then.

        Raises:
            RequestError: clients may not do this, there is no such model, or its folder does not pass.
        """
        entry, loader = self._allowed(name)
        async with self._changing:
            try:
                model = await asyncio.to_thread(loader, entry.folder)
            except (ExportKitError, OSError) as error:
                self.journal.write("error", "model not loaded", model=name, reason=str(error))
                raise RequestError(
                    400, f"model {name} is not loaded: its folder does not pass the check; the server's log says why"
                ) from error
            if model.name != name:
                raise RequestError(400, f"model {name} is not loaded: its folder now holds another network")
            entry.queue, entry.fault = self._queue(model), ""
            self.journal.write("info", "model loaded", model=name)
            if self.canary:
                await self.canary(name)
        if entry.fault:
            raise RequestError(400, f"model {name} is not ready: {entry.fault}")

    async def unload(self, name: str) -> None:
        """Takes a model out of service; requests that it has taken are answered.

        Raises:
            RequestError: clients may not do this, or there is no such model.
        """
        entry, _ = self._allowed(name)
        async with self._changing:
            entry.queue, entry.fault = None, "it was unloaded"
        self.journal.write("info", "model unloaded", model=name)

    def spoil(self, name: str, reason: str) -> None:
        """Marks a model as not fit for service."""
        self._entries[name].fault = reason

    def measure(self) -> bytes:
        """Returns the metrics as Prometheus reads them."""
        for name, entry in self._entries.items():
            meter = self.metrics.meter(name)
            meter.waiting, meter.ready = len(entry.queue.waiting) if entry.queue else 0, self.ready(name)
        return self.metrics.text()

    def describe(self, name: str, version: str = "") -> dict[str, Any]:
        """Returns a model's metadata, as the protocol's REST answer has it."""
        model = self.find(name, version).model
        ports = model.contract.inputs.values(), model.contract.outputs.values()
        inputs, outputs = ([port.described() for port in one] for one in ports)
        return {"name": name, "versions": [VERSION], "platform": "onnxruntime_onnx", "inputs": inputs, "outputs": outputs}

    def configuration(self, name: str, version: str = "") -> dict[str, Any]:
        """Returns a model's configuration in the fields of Triton's ModelConfig, as far as they mean something here."""
        queue = self.find(name, version)
        model, rows = queue.model, queue.most > 1
        found: dict[str, Any] = {
            "name": name,
            "platform": "onnxruntime_onnx",
            "backend": "onnxruntime",
            "version_policy": {"latest": {"num_versions": 1}},
            # There, a model that batches names no rows in its dims.
            "max_batch_size": queue.most if rows else 0,
            "instance_group": [
                {"name": name, "kind": "KIND_GPU" if model.device == "cuda" else "KIND_CPU", "count": self.cores.count},
            ],
        }
        for key, ports in (("input", model.contract.inputs), ("output", model.contract.outputs)):
            kind = {port.name: "TYPE_STRING" if port.datatype == "BYTES" else f"TYPE_{port.datatype}" for port in ports.values()}
            found[key] = [{"name": one.name, "data_type": kind[one.name], "dims": list(one.shape[rows:])} for one in ports.values()]
        if rows:
            found["dynamic_batching"] = {"max_queue_delay_microseconds": round(queue.delay * 1e6)}
        return found

    def _entry(self, name: str, version: str) -> Entry:
        entry = self._entries.get(name)
        if entry is None:
            raise RequestError(404, f"there is no model {shown(name)}")
        if version not in ("", VERSION):
            raise RequestError(404, f"model {name} has no version {shown(version)}; it has {VERSION}")
        return entry

    def _allowed(self, name: str) -> tuple[Entry, Loader]:
        entry = self._entry(name, "")
        if self._loader is None:
            raise RequestError(403, "this server lets no client load or unload models (--allow-reload does)")
        return entry, self._loader

    def _queue(self, model: Model) -> Queue:
        return Queue(model, self.cores, self.options, self.metrics.meter(model.name))
