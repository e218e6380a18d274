"""``tofu ping``: round trips to an echo server."""

from __future__ import annotations

import asyncio
from array import array
from dataclasses import dataclass
from itertools import count as counting
from time import perf_counter

import click

from ..messaging.channel import Channel
from ..messaging.shortcuts import connect
from ..protocol.address import Address
from ..protocol.binary_header import MAX_PART
from ..protocol.errors import TofuError
from ..protocol.status import Status
from .errors import complain, describe
from .measuring import milliseconds, percentile
from .parameters import address_argument
from .running import loop_option, run


@dataclass(frozen=True)
class _Plan:
    """What is asked for; times in seconds."""

    count: int | None
    interval: float
    size: int
    timeout: float


class _Tally:
    """How the round trips went so far."""

    def __init__(self) -> None:
        self.times = array("d")
        self.lost = 0

    def summary(self, address: Address) -> str:
        """Loss, and the spread of the times."""
        answered = len(self.times)
        sent = answered + self.lost
        text = f"\n{address}: {sent} sent, {answered} answered, {100 * self.lost / sent:.3g}% lost"
        if not answered:
            return text
        ordered = sorted(self.times)
        spread = ordered[0], sum(ordered) / answered, ordered[-1], percentile(ordered, 99)
        figures = "/".join(f"{seconds * 1000:.3f}" for seconds in spread)
        return f"{text}\nround trip min/avg/max/p99 = {figures} ms"


@click.command()
@address_argument
@click.option(
    "--count", "-c", type=click.IntRange(min=1), metavar="N", help="Stop after so many round trips."
)
@click.option(
    "--interval",
    "-i",
    type=click.FloatRange(min=0),
    metavar="SECONDS",
    default=1.0,
    show_default=True,
    help="Time from one request to the next; an answer is awaited in any case.",
)
@click.option(
    "--size",
    "-s",
    type=click.IntRange(0, MAX_PART),
    metavar="BYTES",
    default=64,
    show_default=True,
    help="What a request has in its body.",
)
@click.option(
    "--timeout",
    "-W",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    default=5.0,
    show_default=True,
    help="How long to wait for an answer, and for the connection.",
)
@loop_option
def ping(
    *, address: Address, count: int | None, interval: float, size: int, timeout: float, loop: str
) -> int:
    """Measure round trips to an echo server.

    Makes requests to ADDRESS, one at a time, until --count of them or Ctrl-C. Prints a line per
    round trip, then how many were lost and the shortest, mean, longest and 99th
    percentile of their times. Anything that answers requests will do, 'tofu serve' say.

    \b
    Examples:
      tofu ping tcp://127.0.0.1:7000
      tofu ping --count 10000 --interval 0 --size 65535 uds:///tmp/tofu.sock

    Exit code 0 if anything was answered, 1 if nothing was.
    """  # noqa: D301 - \b is click's mark for lines to be left as they are
    tally = _Tally()
    failure: TofuError | None = None
    try:
        plan = _Plan(count, interval, size, timeout)
        run(_ping(address, plan, tally), loop)
    except KeyboardInterrupt:
        pass  # the usual end
    except TofuError as error:
        failure = error
    if tally.times or tally.lost:
        click.echo(tally.summary(address))
    if failure is not None:
        complain("tofu ping", describe(failure))
    return 0 if tally.times else 1


async def _ping(address: Address, plan: _Plan, tally: _Tally) -> None:
    now = asyncio.get_running_loop().time
    async with connect(address, timeout=plan.timeout) as channel:
        click.echo(f"connected to {address}: {plan.size} bytes a request")
        due = now()
        for number in counting(1) if plan.count is None else range(1, plan.count + 1):
            await asyncio.sleep(max(0, due - now()))
            due = now() + plan.interval
            click.echo(f"seq={number} {await _round_trip(channel, plan, tally)}")


async def _round_trip(channel: Channel, plan: _Plan, tally: _Tally) -> str:
    """Make one request, count what became of it, and say it in words."""
    begin = perf_counter()
    try:
        response = await channel.request(bytes(plan.size), timeout=plan.timeout)
    except TimeoutError:
        tally.lost += 1
        return f"no answer within {plan.timeout:g} s"
    except TofuError:
        tally.lost += 1
        raise
    seconds = perf_counter() - begin
    tally.times.append(seconds)
    with response:
        text = f"size={len(response.body)} time={milliseconds(seconds)}"
        refused = response.status is not Status.SUCCESS
        return f"{text} status={response.status.name.lower()}" if refused else text
