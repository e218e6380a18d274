"""A peer on a machine: ``peer FEATURE ROLE LOOP ADDRESS``.

It runs the function ``serve`` or ``ask`` of a module in ``features``, at its first order. Orders of
the test are lines on stdin, and what the peer sees is reported on stdout. It is cancelled at the
end of stdin, so that no peer outlives its test.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import json
import logging
import sys
from collections.abc import AsyncIterator, Callable
from typing import Final

import tofu_aio as tofu
from tests.network.limits import PATIENCE

SIZE: Final = 4000
"""Bytes of a message: some packets, and more than an MTU of 576 takes."""


class Peer:
    """What a feature's function gets.

    Attributes:
        address: where the service is, or is to be.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self._orders: asyncio.Queue[str] = asyncio.Queue()

    def report(self, event: str, **more: object) -> None:
        """Tell the test what has happened."""
        print(json.dumps({"event": event, **more}), flush=True)

    async def order(self) -> str:
        """The test's next order."""
        return await self._orders.get()

    async def order_on(self, channel: tofu.Channel) -> str:
        """The test's next order, unless the channel ends first.

        Raises:
            TofuError: what has ended the channel.
        """
        async with asyncio.TaskGroup() as tasks:
            ordered = tasks.create_task(self.order())
            ended = tasks.create_task(wait_for_end(channel))
            await asyncio.wait([ordered, ended], return_when=asyncio.FIRST_COMPLETED)
            ordered.cancel()
            ended.cancel()
        if not ordered.cancelled():
            return ordered.result()
        raise ended.result()

    async def obey(self, orders: AsyncIterator[bytes]) -> None:
        """Take orders until there will be no more."""
        async for line in orders:
            self._orders.put_nowait(line.decode().strip())


async def wait_for_end(channel: tofu.Channel) -> tofu.TofuError:
    """Receive nothing but the end of a channel."""
    try:
        await channel.receive()
    except tofu.TofuError as error:
        return error
    raise AssertionError("a message came that nobody has sent")


async def until(predicate: Callable[[], object]) -> None:
    """Ask again and again until the predicate holds."""
    async with asyncio.timeout(PATIENCE):
        while not predicate():  # noqa: ASYNC110 - nobody tells when it does
            await asyncio.sleep(0.01)


def body(number: int) -> bytes:
    """A numbered body."""
    return number.to_bytes(8) + bytes(SIZE - 8)


def number_of(body: bytes | memoryview) -> int:
    """The number of a body, which must be whole."""
    assert len(body) == SIZE
    return int.from_bytes(body[:8])


async def _run(feature: str, role: str, peer: Peer) -> None:
    lines = asyncio.StreamReader()
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(lines), sys.stdin
    )
    module = importlib.import_module(f"tests.network.features.{feature}")

    async def play() -> None:
        await peer.order()
        await getattr(module, role)(peer)

    playing = asyncio.create_task(play())
    obeying = asyncio.create_task(peer.obey(lines))
    try:
        await asyncio.wait([playing, obeying], return_when=asyncio.FIRST_COMPLETED)
        playing.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await playing
    finally:
        obeying.cancel()
        await asyncio.wait([obeying])
        transport.close()


def main() -> None:
    """Run a role of a feature on a loop."""
    feature, role, loop, address = sys.argv[1:]
    logging.basicConfig(level=logging.INFO)  # on stderr, which is shown if the test fails
    with asyncio.Runner(loop_factory=tofu.loop_factory(loop)) as runner:
        runner.run(_run(feature, role, Peer(address)))


if __name__ == "__main__":
    main()
