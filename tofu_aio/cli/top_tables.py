"""The tables of ``tofu top``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from typing import Final, NamedTuple

from rich.console import Group, RenderableType
from rich.filesize import decimal
from rich.table import Table
from rich.text import Text

from ..service.counts import BUCKETS
from ..service.errors import OK
from ..service.statistics import HandlerStatistics, ServiceStatistics, Turns
from .errors import printable

_NONE: Final = "-"


class _Calls(NamedTuple):
    """The calls of one name in some time."""

    calls: int
    errors: int
    buckets: Sequence[int]


def view(address: str, now: ServiceStatistics, before: ServiceStatistics | None) -> RenderableType:
    """Everything about a service.

    Args:
        address: of the service.
        now: its statistics.
        before: the previous ones, since when rates are computed; None for since its start.
    """
    seconds = now.seconds if before is None else now.seconds - before.seconds
    if seconds <= 0:  # it was started anew
        before, seconds = None, now.seconds
    lines = [_headline(address, now), *_engine(now, before, seconds), *_loop(now, before, seconds)]
    return Group(
        *(Text(printable(line)) for line in lines),
        Text(),
        _handlers(now, before, seconds),
        Text(),
        _callers(now),
    )


def _headline(address: str, now: ServiceStatistics) -> str:
    state = "draining" if now.draining else "serving"
    refused = ", ".join(f"{number} {code}" for code, number in now.refusals.items())
    return (
        f"{address}: {state} for {now.seconds:.0f} s, {now.channels} channels, calls queued for "
        f"{now.queued:.3f} s, refused {refused or 'none'}"
    )


def _engine(
    now: ServiceStatistics, before: ServiceStatistics | None, seconds: float
) -> Iterator[str]:
    if now.engine is None:
        yield "pool: unknown, because the service is not served with serve()"
        return
    engine, old = now.engine, before.engine if before is not None else None
    yield (
        f"pool: {engine.pool_free} of {engine.pool_size} permits free, {engine.waiting} channels "
        f"wait, held {decimal(engine.held_bytes)}"
    )
    received, sent = (
        (value - (getattr(old, field) if old is not None else 0)) / seconds
        for field, value in (
            ("received_bytes", engine.received_bytes),
            ("sent_bytes", engine.sent_bytes),
        )
    )
    yield f"bytes: {decimal(int(received))}/s in, {decimal(int(sent))}/s out"


def _loop(
    now: ServiceStatistics, before: ServiceStatistics | None, seconds: float
) -> Iterator[str]:
    if now.loop is None:
        return
    old = before.loop if before is not None and before.loop is not None else Turns(0, 0, 0)
    turns = (now.loop.turns - old.turns) / seconds
    running, waiting = now.loop.running - old.running, now.loop.waiting - old.waiting
    busy = running / (running + waiting) if running + waiting > 0 else 0
    yield f"loop: {turns:.0f} turns/s, busy {busy:.0%}"


def _handlers(now: ServiceStatistics, before: ServiceStatistics | None, seconds: float) -> Table:
    table = _table("handler", "running", "calls/s", "errors/s", "median", "p99", "calls", "errors")
    for name, handler in now.handlers.items():
        total = _sum(handler)
        if not total.calls and not handler.running and name.startswith("tofu."):
            continue
        old = _sum(before.handlers.get(name)) if before is not None else _sum(None)
        recent = [here - there for here, there in zip(total.buckets, old.buckets, strict=True)]
        table.add_row(
            Text(printable(name)),
            str(handler.running),
            f"{(total.calls - old.calls) / seconds:.1f}",
            f"{(total.errors - old.errors) / seconds:.1f}",
            quantile(recent, 0.5),
            quantile(recent, 0.99),
            str(total.calls),
            str(total.errors),
        )
    return table


def _callers(now: ServiceStatistics) -> Table:
    table = _table("channel", "caller", "running", "received", "sent", "queued", "")
    for caller in now.callers:
        table.add_row(
            str(caller.number),
            Text(printable(caller.peer)),
            str(caller.running),
            str(caller.received),
            str(caller.sent),
            decimal(caller.queued_bytes),
            "waits for permits" if caller.suspended else "",
        )
    missing = now.channels - len(now.callers)
    if missing > 0:
        table.add_row("...", f"{missing} more")
    return table


def _table(first: str, *others: str) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0))
    table.add_column(first)
    for name in others:
        table.add_column(name, justify="left" if name in {"caller", ""} else "right")
    return table


def _sum(handler: HandlerStatistics | None) -> _Calls:
    """All calls of a name, whatever their codes."""
    ended = {} if handler is None else handler.ended
    columns: Iterable[Sequence[int]] = [counts.buckets for counts in ended.values()]
    buckets = [sum(column) for column in zip(*columns, strict=True)]
    errors = sum(counts.calls for code, counts in ended.items() if code != OK)
    calls = sum(counts.calls for counts in ended.values())
    return _Calls(calls, errors, buckets or [0] * (len(BUCKETS) + 1))


def quantile(buckets: Sequence[int], part: float) -> str:
    """An upper bound of the durations of a part of the calls, in words; "-" without calls.

    Args:
        buckets: calls with durations up to each of ``BUCKETS``, and longer.
        part: 0 to 1.
    """
    wanted = part * sum(buckets)
    if not wanted:
        return _NONE
    for bound, calls in zip(BUCKETS, accumulate(buckets), strict=False):
        if calls >= wanted:
            return f"{bound * 1000:g} ms" if bound < 1 else f"{bound:g} s"
    return f"> {BUCKETS[-1]:g} s"
