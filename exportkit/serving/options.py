"""What `exportkit serve` is told: the command line's options, by the same names."""

from dataclasses import dataclass

from exportkit.spec import Runtime


@dataclass(frozen=True, slots=True)
class Options:
    """How to serve.

    Attributes:
        host: the address to listen on.
        http_port, grpc_port: 0 for a free one.
        runtime: where the networks run, as asked for.
        max_batch: the most rows of several requests in one run; 1 batches nothing.
        max_delay_ms: so long a request waits for company while a core is free.
        max_queue: so many requests may wait for one model; the next one is refused (429).
        max_request: bytes of one request, and of its answer over gRPC.
        timeout: seconds that a request may take, in the queue and in the run.
        drain: seconds after SIGTERM in which new requests are still taken, while readiness says no.
        allow_reload: clients may load and unload models.
        canary: readiness waits until the golden cases, sent to the running server, come back right.
    """

    host: str = "127.0.0.1"
    http_port: int = 8000
    grpc_port: int = 8001
    runtime: Runtime = Runtime()
    max_batch: int = 32
    max_delay_ms: float = 0.0
    max_queue: int = 256
    max_request: int = 64 << 20
    timeout: float = 30.0
    drain: float = 1.0
    allow_reload: bool = False
    canary: bool = False
