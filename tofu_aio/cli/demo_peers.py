"""The two processes of ``tofu demo``, which starts them as hidden commands."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from array import array
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import BinaryIO, Final

import click

from ..messaging.channel import Channel
from ..messaging.engine import Engine
from ..protocol.address import Address
from .demo_events import ClientReport, Listening, Progress, ServerReport, report
from .measuring import peak_memory, percentile
from .parameters import PATH, address_argument, pool_option
from .running import loop_option, run
from .serve import echo
from .transfer import PROGRESS_TIMEOUT, Advance, Offer, confirm, offer_for, receive_file, send_file

BODY: Final = bytes(64)
"""The body of each request."""

_STDIN: Final = 0
_REPORT_EVERY: Final = 0.05
"""Seconds between reports of progress."""


@click.command(hidden=True)
@address_argument
@pool_option
@loop_option
def demo_server(*, address: Address, pool: int, loop: str) -> None:
    """Receive one file from one client, then echo its requests."""
    run(_serve(address, pool), loop)


@click.command(hidden=True)
@click.argument("file", type=PATH)
@address_argument
@click.option("--messages", type=int, required=True)
@click.option("--window", type=int, required=True)
@click.option("--part-size", type=int, required=True)
@pool_option
@loop_option
def demo_client(
    *,
    file: Path,
    address: Address,
    messages: int,
    window: int,
    part_size: int,
    pool: int,
    loop: str,
) -> None:
    """Send one file to the server, then requests."""
    with file.open("rb") as opened:
        work = _Work(opened, offer_for(file), part_size, messages, window)
        run(_work(address, pool, work), loop)


@dataclass(frozen=True)
class _Work:
    """The client's task."""

    file: BinaryIO
    offer: Offer
    part_size: int
    messages: int
    window: int


async def _serve(address: Address, pool: int) -> None:
    async with Engine(pool) as engine, engine.create_group() as group:
        _end_with_parent()
        listener = await group.listen(address)
        report(Listening(str(listener.address)))
        channel = await listener.accept()
        await listener.aclose()
        async with channel:
            first = await channel.receive()
            sha256 = await receive_file(channel, first, _discard, _discard)
            await confirm(channel, first, sha256)
            await echo(channel)
        report(ServerReport(sha256, engine.statistics().suspensions, peak_memory()))


async def _work(address: Address, pool: int, work: _Work) -> None:
    async with Engine(pool) as engine, engine.create_group() as group:
        _end_with_parent()
        progress = _Reporter()
        channel = await group.connect(address)
        async with channel:
            begin = perf_counter()
            sha256 = await send_file(
                channel, work.file, work.offer, progress.sent, part_size=work.part_size
            )
            middle = perf_counter()
            times = sorted(await _burst(channel, work, progress.answered))
            end = perf_counter()
        report(
            ClientReport(
                sha256=sha256,
                file_seconds=middle - begin,
                burst_seconds=end - middle,
                median=percentile(times, 50),
                percentile_99=percentile(times, 99),
                suspensions=engine.statistics().suspensions,
                peak_memory=peak_memory(),
            )
        )


async def _burst(channel: Channel, work: _Work, advance: Advance) -> array[float]:
    """Make requests, ``window`` of them at a time, and return how long each took."""
    left = iter(range(work.messages))
    times = array("d")

    async def keep_asking() -> None:
        for _ in left:
            begin = perf_counter()
            with await channel.request(BODY, timeout=PROGRESS_TIMEOUT):
                times.append(perf_counter() - begin)
            advance(1)

    await asyncio.gather(*(keep_asking() for _ in range(work.window)))
    return times


class _Reporter:
    """Reports progress, at a limited rate."""

    def __init__(self) -> None:
        self._sent = self._answered = 0
        self._next = 0.0

    def sent(self, size: int) -> None:
        """``size`` more bytes were sent."""
        self._sent += size
        self._report()

    def answered(self, count: int) -> None:
        """``count`` more requests were answered."""
        self._answered += count
        self._report()

    def _report(self) -> None:
        now = perf_counter()
        if now >= self._next:
            self._next = now + _REPORT_EVERY
            report(Progress(self._sent, self._answered))


def _discard(_: object) -> None:
    """The demo's server does not keep the file: its digest proves that it was received."""


def _end_with_parent() -> None:
    """Cancel this task once standard input ends, as it does when the demo's process exits."""
    task = asyncio.current_task()
    assert task is not None
    loop = asyncio.get_running_loop()

    def watch() -> None:
        while os.read(_STDIN, 1):
            pass
        with contextlib.suppress(
            RuntimeError
        ):  # the loop is closed: the process is exiting already
            loop.call_soon_threadsafe(task.cancel)

    threading.Thread(target=watch, daemon=True).start()
