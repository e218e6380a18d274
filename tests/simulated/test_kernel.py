"""The simulated system: virtual time, timers, spinning programs, and descriptors."""

from __future__ import annotations

import asyncio
import socket
import time

import pytest

from tofu_aio import testing
from tofu_aio.testing import Deadlock, World


def test_an_hour_passes_at_once() -> None:
    async def main() -> float:
        await asyncio.sleep(3000)
        return asyncio.get_running_loop().time()

    began = time.monotonic()
    assert testing.run(main()) == pytest.approx(3000, abs=0.001)
    assert time.monotonic() - began < 60


def test_timers_are_called_in_order_and_on_time() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        order: list[tuple[int, float]] = []
        for seconds in (3, 1, 2):
            loop.call_later(seconds, lambda s=seconds: order.append((s, round(loop.time(), 3))))
        await asyncio.sleep(5)
        assert order == [(1, 1.0), (2, 2.0), (3, 3.0)]

    testing.run(main())


def test_a_run_that_never_ends_is_ended() -> None:
    async def main() -> None:
        while True:  # noqa: ASYNC110
            await asyncio.sleep(1)

    with pytest.raises(Deadlock, match="the run has not ended within 100 s of virtual time"):
        World(time_limit=100).run(main())


def test_a_program_that_spins_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        while True:  # noqa: ASYNC110
            await asyncio.sleep(0)

    monkeypatch.setattr("tofu_aio.testing.kernel._SPIN", 1000)
    with pytest.raises(Deadlock, match="the program has spun for 1000 turns"):
        testing.run(main())


def test_time_passes_for_a_program_that_spins() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        while loop.time() < 0.01:  # noqa: ASYNC110
            await asyncio.sleep(0)

    testing.run(main())


def test_a_socket_is_watched_under_its_number_and_as_an_object() -> None:
    """The acceptor removes the reader by the socket before it closes its server."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0, start_serving=False)
        (sock,) = server.sockets
        for registered, removed in ((sock, sock.fileno()), (sock.fileno(), sock)):
            assert not loop.remove_reader(removed)
            loop.add_reader(registered, print)
            assert loop.remove_reader(removed)
            assert not loop.remove_reader(removed)
        server.close()

    testing.run(main())


def test_real_sockets_are_refused() -> None:
    async def main() -> None:
        one, other = socket.socketpair()
        with one, other:
            asyncio.get_running_loop().add_reader(one, print)

    with pytest.raises(
        OSError, match="belongs to a real socket: in a simulated world, create sockets"
    ):
        testing.run(main())
