"""The simulated network: bytes, connections, faults and names."""

from __future__ import annotations

import asyncio
import socket
import sys
from random import Random

import pytest

import tofu_aio as tofu
from tests.messaging.certificates import client_context, server_context
from tests.simulated.services import asked, echo
from tofu_aio import testing
from tofu_aio.testing import Network, World


def test_bytes_may_come_one_by_one() -> None:
    network = Network(reads=(1, 1), writes=(1, 1), segments=(1, 1))
    assert testing.run(asked(), network=network) == b"ping"


def test_connections_overtake_each_other() -> None:
    async def main() -> list[int]:
        order: list[int] = []
        async with tofu.Engine() as engine, engine.create_group() as group:
            listener = await group.listen("tcp://127.0.0.1:0")

            async def heard(channel: tofu.Channel) -> None:
                order.append(int((await channel.receive()).body))

            serving = asyncio.create_task(listener.serve(heard))
            channels = [await group.connect(listener.address) for _ in range(5)]
            for number, channel in enumerate(channels):
                await channel.signal(str(number).encode())
            await asyncio.sleep(1)
            await listener.aclose()
            await serving
        return order

    orders = {tuple(testing.run(main(), seed=seed)) for seed in range(10)}
    assert all(sorted(order) == list(range(5)) for order in orders)
    assert len(orders) > 3


async def connected(world: World, address: str) -> float:
    """Connect, and return the time; raise if that fails."""
    async with tofu.Engine() as engine, engine.create_group() as group:
        try:
            await group.connect(address)
        except tofu.TofuError as error:
            world.note("client", "fails", error)
            raise
        return world.time


def test_names_are_those_of_the_network() -> None:
    network = Network(hosts={"server": ["10.0.0.2"]})

    async def main() -> bytes:
        async with tofu.Engine() as engine, engine.create_group() as group:
            listener = await group.listen("tcp://10.0.0.2:7000")
            serving = asyncio.create_task(listener.serve(echo))
            async with await group.connect("tcp://server:7000") as channel:
                body = (await channel.request(b"named")).body
            await listener.aclose()
            await serving
        return body

    assert testing.run(main(), network=network) == b"named"
    with pytest.raises(tofu.ConnectFailed, match="no host 'server' in the simulated network"):
        testing.run(main())


def test_a_silent_host_is_waited_for_without_waiting() -> None:
    world = World(network=Network(silent={"10.0.0.9"}))
    with pytest.raises(tofu.ConnectFailed, match="within 10 s"):
        world.run(connected(world, "tcp://10.0.0.9:1"))
    assert world.time == pytest.approx(10, abs=0.1)


def test_nobody_listens() -> None:
    world = World()
    with pytest.raises(tofu.ConnectFailed, match="nobody is listening"):
        world.run(connected(world, "tcp://127.0.0.1:1"))


def test_connections_may_be_refused_by_chance() -> None:
    with pytest.raises(tofu.ConnectFailed, match="nobody is listening"):
        testing.run(asked(), network=Network(refusals=1.0))


def test_everything_may_be_reset() -> None:
    with pytest.raises(tofu.ConnectFailed, match="did not accept the channel"):
        testing.run(asked(), network=Network(resets=1.0))


def test_accepting_may_fail_for_a_while() -> None:
    failed = 0
    for seed in range(30):
        world = World(seed, Network(accept_failures=0.7))
        try:
            assert world.run(asked()) == b"ping"
        except tofu.ConnectFailed:
            failed += 1  # accepting lost the connection
        assert not world.open_sockets
    assert 0 < failed < 30


def test_a_link_can_be_reset_and_stalled_by_hand() -> None:
    async def main(world: World) -> None:
        async with tofu.Engine() as engine, engine.create_group() as group:
            # With heartbeats the peer would be lost meanwhile.
            listener = await group.listen("tcp://127.0.0.1:0", heartbeat=None)
            serving = asyncio.create_task(listener.serve(echo))
            channel = await group.connect(listener.address, heartbeat=None)
            (link,) = world.links
            link.stall(100)
            began = world.time
            await channel.request(b"slow")
            assert world.time - began > 100
            link.reset()
            with pytest.raises(tofu.PeerDisconnected):
                await channel.receive()
            await listener.aclose()
            await serving
        assert not world.links

    world = World()
    world.run(main(world))


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


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has abstract socket names")
def test_unix_sockets_have_names_and_no_files() -> None:
    assert testing.run(asked("uds://@simulated")) == b"ping"
    with pytest.raises(tofu.ListenFailed, match="read-only"):
        testing.run(asked("uds:///tmp/no-such-socket"))


@pytest.mark.parametrize("address", ["tcp://[::1]:0", "tcp://localhost:0"])
def test_other_addresses_of_this_machine(address: str) -> None:
    assert testing.run(asked(address)) == b"ping"


def test_a_listener_on_all_addresses() -> None:
    async def main() -> bytes:
        async with tofu.Engine() as engine, engine.create_group() as group:
            listener = await group.listen("tcp://*:7000")
            serving = asyncio.create_task(listener.serve(echo))
            async with await group.connect("tcp://127.0.0.1:7000") as channel:
                body = (await channel.request(b"all")).body
            await listener.aclose()
            await serving
        return body

    assert testing.run(main()) == b"all"


def test_tls_runs_over_it() -> None:
    async def main() -> bytes:
        async with tofu.Engine() as engine, engine.create_group() as group:
            listener = await group.listen("tcp://127.0.0.1:0", ssl=server_context())
            serving = asyncio.create_task(listener.serve(echo))
            async with await group.connect(
                listener.address, ssl=client_context(), server_hostname="localhost"
            ) as channel:
                body = (await channel.request(b"secret")).body
            await listener.aclose()
            await serving
        return body

    assert testing.run(main()) == b"secret"


def test_real_sockets_are_refused() -> None:
    async def main() -> None:
        one, other = socket.socketpair()
        with one, other:
            asyncio.get_running_loop().add_reader(one, print)

    with pytest.raises(
        OSError, match="belongs to a real socket: in a simulated world, create sockets"
    ):
        testing.run(main())


def test_no_real_socket_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise AssertionError("a real socket was made")

    for name in ("socket", "socketpair", "create_server", "create_connection", "getaddrinfo"):
        monkeypatch.setattr(socket, name, refused)
    assert testing.run(asked()) == b"ping"


@pytest.mark.parametrize(
    "wrong",
    [
        {"resets": 2.0},
        {"latency": (0.2, 0.1)},
        {"reads": (0, 10)},
        {"segments": (0.5, 10)},
        {"send_buffer": 0},
        {"stalls": float("nan")},
    ],
)
def test_a_network_that_makes_no_sense_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Network(**wrong)  # type: ignore[arg-type]


def test_drawn_networks_differ() -> None:
    drawn = [Network.drawn(Random(seed)) for seed in range(50)]
    assert len(set(map(repr, drawn))) == 50
    assert any(network.resets for network in drawn)
    assert not any(Network.drawn(Random(seed), faults=False).resets for seed in range(50))
