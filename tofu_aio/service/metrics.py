"""What services, clients and engines have counted, as metrics for Prometheus."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import accumulate
from typing import Final, Protocol

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
)
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from ..messaging.statistics import EngineStatistics
from .client import Client
from .counts import BUCKETS, CallCounts, Counts
from .service import Service

_BOUNDS: Final = (*map(str, BUCKETS), "+Inf")

_ATTEMPTS: Final = 10
"""How often the statistics of an engine are asked for while its loop, in another thread, opens or
closes channels."""

_GAUGES: Final = {
    "pool_size": "Permits of the pool: messages that may be alive at once.",
    "pool_free": "Permits of the pool that are free.",
    "channels": "Open channels and listeners.",
    "waiting": "Channels that wait for permits, and so are not read.",
    "held_bytes": "Bytes of messages that wait to be received or sent.",
    "joining_bytes": "Bytes of long bodies whose parts are being joined.",
}
_COUNTERS: Final = {
    "received": ("messages_received", "Messages that have arrived."),
    "sent": ("messages_sent", "Messages that were accepted for sending."),
    "received_bytes": ("received_bytes", "Bytes of frames that have arrived."),
    "sent_bytes": ("sent_bytes", "Bytes of frames that were given to the system."),
    "suspensions": ("suspensions", "How often a channel began to wait for permits."),
    "refused": ("refused_connections", "Connections that listeners have refused."),
}


class CountingEngine(Protocol):
    """An engine, for asyncio or of ``tofu_aio.blocking``."""

    def statistics(self) -> EngineStatistics:
        """A snapshot of the engine."""


class PrometheusCollector(Collector):
    """A collector for ``prometheus_client``.

        prometheus_client.REGISTRY.register(tofu.PrometheusCollector(service, client))

    The metrics of services begin with ``tofu_``, those of clients with ``tofu_client_``, and those
    of engines with ``tofu_engine_``. Several sources of a kind are added up. The engine of
    ``Service.serve`` and that of a client need not be given.

    It may be called in any thread, so ``prometheus_client.start_http_server`` can serve it. A call
    costs nothing more for being measured: all of it was counted anyway.

    Args:
        sources: services, clients and engines.

    Raises:
        TypeError: a source is none of them.
    """

    def __init__(self, *sources: Service | Client | CountingEngine) -> None:
        self._services: dict[Service, None] = {}  # in order
        self._clients: dict[Client, None] = {}
        self._engines: list[CountingEngine] = []
        self.add(*sources)

    def add(self, *sources: Service | Client | CountingEngine) -> None:
        """Collect from these too, which were made later. One that is there already counts once.

        Raises:
            TypeError: a source is no Service, Client or Engine.
        """
        for source in sources:
            if isinstance(source, Service):
                self._services[source] = None
            elif isinstance(source, Client):
                self._clients[source] = None
            elif hasattr(source, "statistics"):
                self._engines.append(source)
            else:
                raise TypeError(
                    f"a source of metrics is {source!r}: give a Service, a Client or an Engine"
                )

    def collect(self) -> Iterator[Metric]:
        """The metrics, as they are now."""
        if self._services:
            counts = [service.counts for service in self._services]
            yield from _calls("tofu", counts)
            yield CounterMetricFamily(
                "tofu_calls_queued_seconds",
                "Seconds that calls have waited for their turn.",
                sum(each.queued for each in counts),
            )
            refused = CounterMetricFamily(
                "tofu_calls_refused", "Calls that were not begun.", labels=["code"]
            )
            for code, number in _added(each.refusals for each in counts).items():
                refused.add_metric([code], number)
            yield refused
        if self._clients:
            own = [client.counts for client in self._clients]
            yield from _calls("tofu_client", own)
            yield CounterMetricFamily(
                "tofu_client_connects",
                "Channels that were opened.",
                sum(each.connects for each in own),
            )
            yield CounterMetricFamily(
                "tofu_client_retries",
                "Attempts beyond the first one of each call.",
                sum(each.retries for each in own),
            )
        yield from _engines([_told(engine) for engine in self._all_engines()])

    def _all_engines(self) -> list[CountingEngine]:
        """The engines, each once."""
        engines = [*self._engines]
        engines += [each.engine for each in self._services if each.engine is not None]
        engines += [each.engine for each in self._clients if each.engine is not None]
        return list({id(engine): engine for engine in engines}.values())


def _calls(prefix: str, all_counts: Iterable[Counts]) -> Iterator[Metric]:
    """What services and clients count in the same way."""
    calls = CounterMetricFamily(
        f"{prefix}_calls", "Calls that have ended.", labels=["name", "code"]
    )
    durations = HistogramMetricFamily(
        f"{prefix}_call_duration_seconds", "How long calls took.", labels=["name"]
    )
    running = 0
    numbers: dict[tuple[str, str], int] = {}
    of_name: dict[str, list[CallCounts]] = {}
    for counts in all_counts:
        running += counts.running
        for kind, counted in counts.ended_calls.copy().items():
            numbers[kind] = numbers.get(kind, 0) + counted.calls
            of_name.setdefault(kind[0], []).append(counted)
    for kind, number in numbers.items():
        calls.add_metric(kind, number)
    for name, several in of_name.items():
        buckets = accumulate(map(sum, zip(*(each.buckets for each in several), strict=True)))
        durations.add_metric(
            [name],
            list(zip(_BOUNDS, buckets, strict=True)),
            sum(each.seconds for each in several),
        )
    yield calls
    yield durations
    yield GaugeMetricFamily(f"{prefix}_calls_running", "Calls that are running.", running)


def _engines(told: list[EngineStatistics]) -> Iterator[Metric]:
    if not told:
        return
    for field, text in _GAUGES.items():
        total = sum(getattr(each, field) for each in told)
        yield GaugeMetricFamily(f"tofu_engine_{field}", text, total)
    for field, (name, text) in _COUNTERS.items():
        total = sum(getattr(each, field) for each in told)
        yield CounterMetricFamily(f"tofu_engine_{name}", text, total)


def _told(engine: CountingEngine) -> EngineStatistics:
    """The statistics of an engine whose loop may be in another thread."""
    for _ in range(_ATTEMPTS - 1):
        try:
            return engine.statistics()
        except RuntimeError:  # a dictionary has changed while it was read
            continue
    return engine.statistics()


def _added(several: Iterable[dict[str, int]]) -> dict[str, int]:
    total: dict[str, int] = {}
    for each in several:
        for code, number in each.copy().items():
            total[code] = total.get(code, 0) + number
    return total
