"""A thousand channels on a pool of 64, one of them greedy; and the same with the last served first.

Three processes on loopback: a server that holds each message for some milliseconds, as one that
asks a database does, so that the pool is what all of them want; a client with the polite channels,
each of which asks again when it has been answered; and a greedy one that sends as fast as it can.
Every answer says how many messages the server had served by then, so that a channel knows how many
were served while it waited: a measure that a slow machine does not change.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import statistics
import struct
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tofu_aio as tofu
from tests.benchmarks import processes
from tests.benchmarks.processes import FOLDER
from tofu_aio.protocol.account import LENT
from tofu_aio.protocol.pool import Reader, Waiters

WORK = 0.01
"""Seconds for which the server holds a message: a pool of 64 serves 6,400 a second at the most."""

COUNTS = struct.Struct(">QQ")

ORDERS = ("first come, first served", "last come, first served")

KEPT = LENT + 1
"""Messages of each channel that the server keeps: one on the channel's reserve, and as many as are
lent while the channel waits. What comes after them has nothing but its turn at the pool."""


class LastComeFirstServed(Waiters):
    """The queue of a pool, wrongly."""

    @property
    def first(self) -> Reader:
        """Who has waited least."""
        return next(reversed(self))

    def popleft(self) -> Reader:
        """Take out who has waited least."""
        return self.popitem()[0]


@dataclass(frozen=True)
class Served:
    """What a server has served so far.

    Attributes:
        greedy: messages of the greedy channel.
        polite: messages of all others.
    """

    greedy: int = 0
    polite: int = 0

    @property
    def messages(self) -> int:
        """Of all channels."""
        return self.greedy + self.polite

    def encode(self) -> bytes:
        """For an answer."""
        return COUNTS.pack(self.greedy, self.polite)


class Server:
    """Holds each message, then answers what can be answered."""

    def __init__(self) -> None:
        self.served = Served()

    async def handle(self, channel: tofu.Channel) -> None:
        """One channel."""
        kept = [await channel.receive() for _ in range(KEPT)]
        async for message in channel:
            with message:
                await asyncio.sleep(WORK)
                now = self.served
                if message.op_code is tofu.OpCode.SIGNAL:
                    self.served = Served(now.greedy + 1, now.polite)
                else:
                    self.served = Served(now.greedy, now.polite + 1)
                    await channel.reply(message, self.served.encode())
        del kept


async def serve(order: str, pool: int) -> None:
    """Serve until killed."""
    # The share of one is another bound; here all wait in one queue.
    engine = tofu.Engine(pool, channel_share=1)
    async with engine, engine.create_group() as group:
        if order == ORDERS[1]:
            engine._gate.pool.waiters = LastComeFirstServed()
        listener = await group.listen("tcp://127.0.0.1:0")
        print(listener.address, flush=True)
        await listener.serve(Server().handle)


class Client:
    """All polite channels."""

    def __init__(self) -> None:
        self.served = Served()
        """As far as anybody here has heard."""
        self.counting = False
        """The warm-up is over."""


class Polite:
    """One channel, and how its requests fared after the warm-up."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self.served_meanwhile: list[int] = []
        """For each answer, how many messages the server served until it came."""
        self.seconds: list[float] = []
        """Likewise, how long it took."""
        self._asked, self._before = 0.0, 0

    async def ask(self, channel: tofu.Channel) -> None:
        """One request after another, the next when the last is answered."""
        client = self._client
        while True:
            self._asked, self._before = time.monotonic(), client.served.messages
            with await channel.request(b"please") as answer:
                served = Served(*COUNTS.unpack(answer.body))
            client.served = max(client.served, served, key=lambda served: served.messages)
            if client.counting:
                self.note(served)

    def note(self, served: Served) -> None:
        """The wait is over, or the time is."""
        self.served_meanwhile.append(served.messages - self._before)
        self.seconds.append(time.monotonic() - self._asked)

    def report(self) -> dict[str, Any]:
        """What is told of it; at the end of the time, for the wait that has none."""
        answered = len(self.seconds)
        self.note(self._client.served)
        return {
            "answered": answered,
            "longest": max(self.served_meanwhile),
            "seconds": [round(second, 4) for second in self.seconds],
        }


async def keep(channel: tofu.Channel) -> None:
    """Send what the server keeps."""
    for _ in range(KEPT):
        await channel.signal(b"to keep")


async def be_polite(address: str, channels: int, seconds: float) -> None:
    """All polite channels; says when they are open, and at the end what they saw."""
    client = Client()
    polite = [Polite(client) for _ in range(channels)]
    async with tofu.Engine(2 * channels) as engine, engine.create_group() as group:
        opened = [await group.connect(address) for _ in range(channels)]
        for channel in opened:
            await keep(channel)
        print("open", flush=True)
        asking = [
            asyncio.create_task(one.ask(channel))
            for one, channel in zip(polite, opened, strict=True)
        ]
        await asyncio.sleep(seconds / 4)
        client.counting, before = True, client.served
        await asyncio.sleep(seconds)
        told = {
            "greedy": client.served.greedy - before.greedy,
            "polite": client.served.polite - before.polite,
            "channels": [one.report() for one in polite],
        }
        for task in asking:
            task.cancel()
        print(json.dumps(told), flush=True)
        for channel in opened:
            channel.abort()


async def be_greedy(address: str) -> None:
    """Send as fast as it goes, until there is nobody to send to."""
    message = tofu.Message(tofu.OpCode.SIGNAL, b"more!")
    async with tofu.connect(address) as channel:
        await keep(channel)
        with contextlib.suppress(tofu.PeerDisconnected):
            while True:
                await channel.send(message)


def measure(order: str, options: argparse.Namespace) -> dict[str, Any]:
    """One run."""
    server = processes.start("fairness", "serve", order, options.pool)
    running = [server]
    try:
        address = processes.next_line(server)
        polite = processes.start(
            "fairness", "polite", address, options.channels - 1, options.seconds
        )
        running.append(polite)
        processes.next_line(polite)
        running.append(processes.start("fairness", "greedy", address))
        result: dict[str, Any] = json.loads(processes.next_line(polite))
    finally:
        processes.end(running)
    return result


def row(order: str, result: dict[str, Any]) -> list[str]:
    """The figures of one run."""
    channels = result["channels"]
    answered = [channel["answered"] for channel in channels]
    longest = [channel["longest"] for channel in channels]
    seconds = [second for channel in channels for second in channel["seconds"]]
    served = result["greedy"] + result["polite"]
    share = result["polite"] / len(channels)
    return [
        order,
        f"{served:,}",
        f"{result['greedy'] / share:.2f}",
        f"{min(answered)} to {max(answered)}",
        str(answered.count(0)),
        f"{statistics.median(longest):,.0f}",
        f"{max(longest):,}",
        f"{max(seconds) / statistics.median(seconds):.1f}",
    ]


def draw(results: dict[str, dict[str, Any]], path: Path) -> None:
    """Each channel's longest wait, sorted."""
    figure, panels = processes.figure(
        2, "1,000 channels, one of them greedy: how long each other one had to wait"
    )
    for panel, (order, result) in zip(panels, results.items(), strict=True):
        panel.plot(sorted(channel["longest"] for channel in result["channels"]))
        panel.set(title=order, xlabel="channels, sorted", yscale="log")
    panels[0].set_ylabel("messages served during its longest wait")
    processes.write_svg(figure, path)


def main() -> None:
    """Run both orders, print the table, and draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--channels", type=int, default=1000)
    parser.add_argument("--pool", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=20.0, help="of each run")
    parser.add_argument("--plot", type=Path, default=FOLDER / "fairness.svg")
    parser.add_argument("--json", type=Path, help="write all that was measured here")
    options = parser.parse_args()
    results = {order: measure(order, options) for order in ORDERS}
    columns = [
        "",
        "served",
        "greedy one's share, in those of another",
        "answered, each",
        "never answered",
        "longest wait, median",
        "longest wait of all",
        "longest time, in median times",
    ]
    print(f"Waits in messages served meanwhile; {processes.machine()}\n")
    print(processes.markdown(columns, [row(*result) for result in results.items()]))
    draw(results, options.plot)
    if options.json:
        processes.write_json(options.json, results)


ROLES = {
    "serve": lambda order, pool: serve(order, int(pool)),
    "polite": lambda address, count, seconds: be_polite(address, int(count), float(seconds)),
    "greedy": be_greedy,
}

if __name__ == "__main__":
    if sys.argv[1:2] and sys.argv[1] in ROLES:
        tofu.run(ROLES[sys.argv[1]](*sys.argv[2:]))
    else:
        main()
