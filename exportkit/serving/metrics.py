"""Counts for Prometheus. They are plain numbers, written by the event loop's thread alone, and become metrics when somebody looks."""

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_ROWS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0)
_PREFIX = "exportkit_"


class Spread:
    """How often values fell between bounds."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def add(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def cumulated(self) -> list[tuple[str, int]]:
        """Lists the bounds, and how many values lie at or below each."""
        found, count = [], 0
        for bound, more in zip((*self.bounds, "+Inf"), self.counts, strict=True):
            count += more
            found.append((str(bound), count))
        return found


@dataclass(slots=True)
class Meter:
    """The counts of one model.

    Attributes:
        answers: (protocol, status) -> how many.
        seconds: from a request's last byte to its answer.
        runs, rows: seconds and rows of runs, each of which may serve several requests.
        ran: requests whose network was run.
    """

    answers: dict[tuple[str, int], int] = field(default_factory=dict)
    seconds: Spread = field(default_factory=lambda: Spread(_SECONDS))
    runs: Spread = field(default_factory=lambda: Spread(_SECONDS))
    rows: Spread = field(default_factory=lambda: Spread(_ROWS))
    ran: int = 0
    waiting: int = 0
    ready: bool = False

    def answered(self, protocol: str, status: int) -> None:
        key = (protocol, status)
        self.answers[key] = self.answers.get(key, 0) + 1


class Metrics(Collector):
    """All counts of a server.

    Attributes:
        meters: model -> its counts; "" for requests that name no model of this server.
    """

    def __init__(self) -> None:
        self.meters: dict[str, Meter] = {"": Meter()}
        self._registry = CollectorRegistry()
        self._registry.register(self)

    def meter(self, model: str) -> Meter:
        """Returns the counts of a model; a model that is loaded again goes on with them."""
        return self.meters.setdefault(model, Meter())

    def text(self) -> bytes:
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        """Yields the metrics, as prometheus_client asks for them."""
        requests = CounterMetricFamily(
            f"{_PREFIX}requests", "Requests for inference that were answered.", labels=("model", "protocol", "status")
        )
        for name, meter in self.meters.items():
            for (protocol, status), count in meter.answers.items():
                requests.add_metric((name, protocol, str(status)), count)
        yield requests
        served = {name: meter for name, meter in self.meters.items() if name}
        ran = CounterMetricFamily(f"{_PREFIX}requests_run", "Requests whose network was run.", labels=("model",))
        waiting = GaugeMetricFamily(f"{_PREFIX}waiting", "Requests that wait for a core.", labels=("model",))
        ready = GaugeMetricFamily(f"{_PREFIX}model_ready", "1 where a model is ready.", labels=("model",))
        seconds = HistogramMetricFamily(f"{_PREFIX}request_seconds", "From a request's last byte to its answer.", labels=("model",))
        runs = HistogramMetricFamily(f"{_PREFIX}run_seconds", "Runs of a network; one may serve several requests.", labels=("model",))
        rows = HistogramMetricFamily(f"{_PREFIX}run_rows", "Rows of a run; 1 where requests are not batched.", labels=("model",))
        for name, meter in served.items():
            ran.add_metric((name,), meter.ran)
            waiting.add_metric((name,), meter.waiting)
            ready.add_metric((name,), meter.ready)
            for family, spread in ((seconds, meter.seconds), (runs, meter.runs), (rows, meter.rows)):
                family.add_metric((name,), spread.cumulated(), spread.total)
        yield from (ran, waiting, ready, seconds, runs, rows)
