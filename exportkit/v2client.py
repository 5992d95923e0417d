"""A server of the Open Inference Protocol (KServe V2, REST), asked as a backend is: arrays in and arrays out by name."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

from exportkit import exchange, v2wire
from exportkit.elements import BINARY_ONLY
from exportkit.errors import RunError
from exportkit.exchange import Answer, Place
from exportkit.spec import Network

Array = NDArray[Any]

_FEW = 1 << 20  # bytes that metadata may take


@dataclass(slots=True)
class Remote:
    """One model of one server.

    Attributes:
        path: of the model, "/v2/models/net" or "/v2/models/net/versions/2".
        seconds: wall time that one answer may take.
        most: bytes that one answer may have.
        binary: tensors travel as bytes; otherwise as JSON numbers.
        silent: why it is asked no more: it let one request wait, and would let all of them.
    """

    place: Place
    path: str
    network: Network
    seconds: float
    most: int
    binary: bool = False
    silent: str = ""
    facts: dict[str, Any] = field(default_factory=dict)

    def describe(self) -> dict[str, Any]:
        """Asks what the server is and what its model takes; sets how tensors travel.

        Returns:
            The model's metadata.

        Raises:
            RunError: it cannot be reached, does not answer, or has no such model.
        """
        root = self.path.partition("/v2/")[0]
        server = self._ask("GET", f"{root}/v2", most=_FEW)
        try:
            told, _ = _object(server)
        except RunError:  # only the model's own metadata is needed
            told = {}
        extensions = told.get("extensions")
        narrow = any(spec.dtype in BINARY_ONLY for spec in (*self.network.inputs, *self.network.outputs))
        self.binary = narrow or (isinstance(extensions, list) and v2wire.BINARY in extensions)
        self.facts = {"server": f"{told.get('name', '')} {told.get('version', '')}".strip(), "wire": "binary" if self.binary else "json"}
        try:
            return _object(self._ask("GET", self.path, most=_FEW))[0]
        except RunError as error:
            raise RunError(f"has no model at {self.path}: {error.what}") from error

    def __call__(self, inputs: Mapping[str, Array]) -> list[Array]:
        """Asks for one case.

        Returns:
            One array for each of `network.outputs`, of the element type and shape that the server gave.

        Raises:
            RunError: there is no answer, or it is none of this protocol.
        """
        if self.silent:
            raise RunError(self.silent)
        asked = {"name": None, **({"parameters": {"binary_data": True}} if self.binary else {})}
        outputs = [{**asked, "name": spec.name} for spec in self.network.outputs]
        tensors = [(spec.name, inputs[spec.name]) for spec in self.network.inputs]
        body, headers = v2wire.pack({"outputs": outputs}, "inputs", tensors, binary=self.binary)
        try:
            answer = self._ask("POST", f"{self.path}/infer", body, headers, most=self.most)
        except _SilentError as error:
            self.silent = error.what
            raise
        told, raw = _object(answer)
        found = v2wire.unpack(told.get("outputs"), "output", raw)
        wanted = [spec.name for spec in self.network.outputs]
        if found.keys() != set(wanted):
            raise RunError(f"answers with the outputs {_listed(found)}, not {_listed(wanted)}")
        return [found[name] for name in wanted]

    def _ask(self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None, *, most: int) -> Answer:
        try:
            return exchange.ask(self.place, method, path, body, headers, seconds=self.seconds, most=most)
        except TimeoutError as error:
            raise _SilentError(f"gives no whole answer within {self.seconds:g} s") from error
        except ConnectionError as error:
            raise _SilentError(str(error)) from error


class _SilentError(RunError):
    """The server lets a request wait, or is not there."""


def _listed(names: Sequence[str] | Mapping[str, Any]) -> str:
    return exchange.words(", ".join(names)) or "none"


def _object(answer: Answer) -> tuple[dict[str, Any], bytes]:
    """Takes an answer apart: its JSON object, and the bytes behind it.

    Raises:
        RunError: the status is an error, or there is no object.
    """
    if answer.status != 200:  # noqa: PLR2004 - the only status of this protocol that is no error
        try:
            why = v2wire.split(answer.body, None)[0].get("error", "")
        except RunError:
            why = ""
        raise RunError(f"answers {answer.status}" + (f": {exchange.words(str(why))}" if why else ""))
    try:
        return v2wire.split(answer.body, answer.headers.get(v2wire.HEAD.lower()))
    except RunError as error:
        raise RunError(f"gives an answer that {error.what}") from error
