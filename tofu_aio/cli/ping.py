"""``tofu ping``: measure round trips to an echo server."""

from __future__ import annotations

import asyncio
from array import array
from dataclasses import dataclass, field
from itertools import count as counting
from time import perf_counter
from typing import cast

import click

from ..messaging.channel import Channel
from ..messaging.options import ClientOptions
from ..messaging.shortcuts import connect
from ..protocol.address import Address
from ..protocol.binary_header import MAX_PART
from ..protocol.errors import TofuError
from ..protocol.status import Status
from .errors import describe, print_error
from .measuring import milliseconds, percentile
from .parameters import Headers, address_argument, headers_option
from .running import loop_option, run
from .tls import tls_for, tls_options


@dataclass(frozen=True)
class _Plan:
    """The options of the command. Times are in seconds."""

    count: int | None
    interval: float
    size: int
    timeout: float
    headers: Headers = ()
    options: ClientOptions = field(default_factory=ClientOptions)


class _Tally:
    """The results so far."""

    def __init__(self) -> None:
        self.times = array("d")
        self.lost = 0

    def summary(self, address: Address) -> str:
        """Format the loss and the distribution of the times."""
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
    "--count", "-c", type=click.IntRange(min=1), metavar="N", help="Stop after N round trips."
)
@click.option(
    "--interval",
    "-i",
    type=click.FloatRange(min=0),
    metavar="SECONDS",
    default=1.0,
    show_default=True,
    help="Time between requests. The next request waits for the response in any case.",
)
@click.option(
    "--size",
    "-s",
    type=click.IntRange(0, MAX_PART),
    metavar="BYTES",
    default=64,
    show_default=True,
    help="Size of the body of each request.",
)
@click.option(
    "--timeout",
    "-W",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    default=5.0,
    show_default=True,
    help="Time to wait for the connection, and for each response.",
)
@headers_option
@tls_options
@loop_option
def ping(
    *,
    address: Address,
    count: int | None,
    interval: float,
    size: int,
    timeout: float,
    headers: Headers,
    loop: str,
) -> int:
    """Measure round trips to an echo server.

    Sends requests to ADDRESS, one at a time, until Ctrl-C or until --count is reached. Prints a
    line for each round trip. At the end prints how many requests were lost, and the minimum,
    average, maximum and 99th percentile of the times. Works with any peer that responds to
    requests, for example 'tofu serve'.

    \b
    Examples:
      tofu ping tcp://127.0.0.1:7000
      tofu ping --cafile ca.pem -H token:s3cret tcp://example.org:7000
      tofu ping --count 10000 --interval 0 --size 65535 uds:///tmp/tofu.sock

    Exit code: 0 if there was any response, 1 if not.
    """  # noqa: D301 - \b tells click not to rewrap the paragraph
    tally = _Tally()
    failure: TofuError | None = None
    try:
        options = cast(
            "ClientOptions", {**tls_for(address), "headers": headers, "timeout": timeout}
        )
        plan = _Plan(count, interval, size, timeout, headers, options)
        run(_ping(address, plan, tally), loop)
    except KeyboardInterrupt:
        pass  # the usual way to stop
    except TofuError as error:
        failure = error
    if tally.times or tally.lost:
        click.echo(tally.summary(address))
    if failure is not None:
        print_error("tofu ping", describe(failure))
    return 0 if tally.times else 1


async def _ping(address: Address, plan: _Plan, tally: _Tally) -> None:
    now = asyncio.get_running_loop().time
    async with connect(address, **plan.options) as channel:
        click.echo(f"connected to {address}: {plan.size} bytes per request")
        due = now()
        for number in counting(1) if plan.count is None else range(1, plan.count + 1):
            await asyncio.sleep(max(0, due - now()))
            due = now() + plan.interval
            click.echo(f"seq={number} {await _round_trip(channel, plan, tally)}")


async def _round_trip(channel: Channel, plan: _Plan, tally: _Tally) -> str:
    """Make one request, count the result, and format it."""
    begin = perf_counter()
    try:
        body = bytes(plan.size)
        response = await channel.request(body, plan.headers, timeout=plan.timeout)
    except TimeoutError:
        tally.lost += 1
        return f"no response within {plan.timeout:g} s"
    except TofuError:
        tally.lost += 1
        raise
    seconds = perf_counter() - begin
    tally.times.append(seconds)
    with response:
        text = f"size={len(response.body)} time={milliseconds(seconds)}"
        refused = response.status is not Status.SUCCESS
        return f"{text} status={response.status.name.lower()}" if refused else text
