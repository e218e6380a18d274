"""The simulated world itself: its time, its network, and how it says that something is wrong."""

from __future__ import annotations

import asyncio
import random
import socket
import sys
import time
from collections.abc import Awaitable, Callable
from random import Random

import pytest

import tofu_aio as tofu
from tests.messaging.certificates import client_context, server_context
from tofu_aio import testing
from tofu_aio.testing import Deadlock, Delivery, Network, PoolCheck, World


async def echo(channel: tofu.Channel) -> None:
    async for message in channel:
        with message:
            await channel.reply(message, message.body)


async def asked(address: str = "tcp://127.0.0.1:0", **options: object) -> bytes:
    """One request to an echo service, all in one program."""
    async with tofu.Engine() as engine, engine.create_group() as group:
        listener = await group.listen(address)
        serving = asyncio.create_task(listener.serve(echo))
        async with await group.connect(listener.address) as channel:
            with await channel.request(b"ping") as response:
                body = response.body
        await listener.aclose()
        await serving
    return body


# --- time -------------------------------------------------------------------------------------


def test_an_hour_passes_at_once() -> None:
    async def main() -> float:
        await asyncio.sleep(3000)
        return asyncio.get_running_loop().time()

    began = time.monotonic()
    assert testing.run(main()) == pytest.approx(3000, abs=0.001)
    assert time.monotonic() - began < 60


def test_timers_come_in_their_order_and_on_time() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        order: list[tuple[int, float]] = []
        for seconds in (3, 1, 2):
            loop.call_later(seconds, lambda s=seconds: order.append((s, round(loop.time(), 3))))
        await asyncio.sleep(5)
        assert order == [(1, 1.0), (2, 2.0), (3, 3.0)]

    testing.run(main())


def test_who_waits_for_nothing_is_told_where() -> None:
    async def forgotten() -> None:
        await asyncio.get_running_loop().create_future()

    async def main() -> None:
        await asyncio.create_task(forgotten(), name="the forgetful")

    with pytest.raises(Deadlock) as caught:
        testing.run(main())
    text = str(caught.value)
    assert text.startswith("nothing can happen any more")
    assert "main waits for the task the forgetful" in text
    assert "the forgetful waits for a result that nobody brings" in text
    assert "forgotten" in text
    assert __file__ in text


def test_a_run_that_never_ends_is_ended() -> None:
    async def main() -> None:
        while True:  # noqa: ASYNC110
            await asyncio.sleep(1)

    with pytest.raises(Deadlock, match="it has taken 100 s of virtual time, and goes on"):
        World(time_limit=100).run(main())


def test_a_program_that_spins_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        while True:  # noqa: ASYNC110
            await asyncio.sleep(0)

    monkeypatch.setattr("tofu_aio.testing.kernel._SPIN", 1000)
    with pytest.raises(Deadlock, match="it has spun for 1000 turns"):
        testing.run(main())


def test_who_spins_until_something_arrives_sees_it_arrive() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        while loop.time() < 0.01:  # noqa: ASYNC110
            await asyncio.sleep(0)

    testing.run(main())


# --- what a run is ----------------------------------------------------------------------------


def test_the_engine_runs_in_it() -> None:
    for seed in range(20):
        assert testing.run(asked(), seed=seed) == b"ping"


def test_a_result_an_error_and_a_cancellation_come_out() -> None:
    async def main() -> None:
        raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        testing.run(main())

    async def cancelled() -> None:
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        testing.run(cancelled())


def test_what_a_callback_raises_fails_the_run() -> None:
    async def main() -> None:
        asyncio.get_running_loop().call_soon(int, "no number")
        await asyncio.sleep(1)

    with pytest.raises(ExceptionGroup) as caught:
        testing.run(main())
    assert isinstance(caught.value.exceptions[0], ValueError)


def test_tasks_that_are_left_are_cancelled() -> None:
    ended = []

    async def background() -> None:
        try:
            await asyncio.sleep(1000)
        finally:
            ended.append(True)

    async def main() -> None:
        main.task = asyncio.create_task(background())  # type: ignore[attr-defined]
        await asyncio.sleep(0)

    testing.run(main())
    assert ended == [True]


def test_a_world_runs_once() -> None:
    async def main() -> None: ...

    world = World()
    world.run(main())
    with pytest.raises(RuntimeError, match="a world runs once"):
        world.run(main())


def test_chance_is_the_seed_s_and_given_back_afterwards() -> None:
    async def main() -> float:
        return random.random()

    random.seed(1)
    expected = random.random()
    random.seed(1)
    one, other, different = (testing.run(main(), seed=seed) for seed in (5, 5, 6))
    assert one == other != different
    assert random.random() == expected


def test_threads_are_refused() -> None:
    async def main() -> None:
        await asyncio.to_thread(print)

    with pytest.raises(RuntimeError, match="a simulated world has no threads"):
        testing.run(main())


def test_watchers_look_after_each_turn_and_may_end_the_run() -> None:
    async def main() -> None:
        await asyncio.sleep(10)

    world = World()

    def too_late() -> None:
        assert world.time < 5, "it is too late"

    world.watch(too_late)
    with pytest.raises(AssertionError, match="it is too late"):
        world.run(main())


def test_a_program_that_fails_with_one_seed_is_told_with_it() -> None:
    async def program(world: World) -> None:
        world.note("program", "runs")
        assert world.seed < 7, "seven is too much"

    with pytest.raises(AssertionError, match="seven is too much") as caught:
        testing.simulate(program, seeds=range(100))
    (note,) = caught.value.__notes__
    assert note.startswith("seed 7 failed; what happened last:")
    assert "program      runs" in note


# --- the network ------------------------------------------------------------------------------


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
    """When a connection was there, or was not."""
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
    with pytest.raises(tofu.InvalidAddress, match="knows no 'server'"):
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
            failed += 1  # a connection was lost in that moment
        assert not world.open_sockets
    assert 0 < failed < 30


def test_a_link_can_be_reset_and_stalled_by_hand() -> None:
    async def main(world: World) -> None:
        async with tofu.Engine() as engine, engine.create_group() as group:
            listener = await group.listen("tcp://127.0.0.1:0")
            serving = asyncio.create_task(listener.serve(echo))
            channel = await group.connect(listener.address)
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


# --- the checks -------------------------------------------------------------------------------


def test_what_arrives_out_of_order_twice_or_never_is_found() -> None:
    delivery = Delivery[str]("talk")
    for item in "abc":
        with delivery.sending(item):
            pass
    delivery.received("a")
    with pytest.raises(AssertionError, match="talk: 'c' came where 'b' was due"):
        delivery.received("c")
    with pytest.raises(AssertionError, match=r"talk: \['c'\] never came, 1 in all"):
        delivery.check_complete()
    delivery.received("c")
    with pytest.raises(AssertionError, match="talk: 'c' came, and was never sent"):
        delivery.received("c")
    delivery.check_complete()


def test_what_failed_to_be_sent_may_come_or_not() -> None:
    delivery = Delivery[int]("talk")
    for number in range(4):
        try:
            with delivery.sending(number):
                if number % 2 == 0:
                    raise TimeoutError
        except TimeoutError:
            pass
    delivery.received(1)
    delivery.received(2)
    delivery.received(3)
    delivery.check_complete()


def test_what_came_back_must_not_be_delivered() -> None:
    delivery = Delivery[int]("talk")
    with delivery.sending(1):
        pass
    delivery.received(1)
    with pytest.raises(AssertionError, match="came back, and was delivered as well"):
        delivery.withdraw(1)


async def two_hungry_channels(
    world: World, spoil: Callable[[tofu.Engine], Awaitable[None]]
) -> None:
    async with tofu.Engine(pool_messages=1) as engine, engine.create_group() as group:
        check = PoolCheck(world, engine, longest_wait=50)
        world.watch(check)
        listener = await group.listen("tcp://127.0.0.1:0")
        connecting = [group.connect(listener.address) for _ in range(3)]
        accepting = asyncio.create_task(_accepted(listener, 3))
        channels = await asyncio.gather(*connecting)
        others = await accepting
        for channel in channels:
            for number in range(3):
                await channel.signal(str(number).encode())
        await asyncio.sleep(1)
        assert check.waiting == 3
        await spoil(engine)
        await asyncio.gather(*map(_received_three, others))
        assert 0 < check.waited <= 50


async def _received_three(channel: tofu.Channel) -> None:
    for _ in range(3):
        (await channel.receive()).release()


async def _accepted(listener: tofu.Listener, count: int) -> list[tofu.Channel]:
    return [await listener.accept() for _ in range(count)]


def held(spoil: Callable[[tofu.Engine], Awaitable[None]]) -> None:
    world = World()
    world.run(two_hungry_channels(world, spoil))


def test_a_pool_that_keeps_its_promises_passes() -> None:
    async def nothing(_: tofu.Engine) -> None: ...

    held(nothing)


def test_a_wait_that_is_too_long_is_found() -> None:
    async def idle(_: tofu.Engine) -> None:
        await asyncio.sleep(100)

    with pytest.raises(AssertionError, match="a channel has waited for"):
        held(idle)


def test_who_is_served_out_of_turn_is_found() -> None:
    async def turn_round(engine: tofu.Engine) -> None:
        engine._gate.pool.waiters.reverse()

    with pytest.raises(AssertionError, match="which has waited longer"):
        held(turn_round)


def test_too_many_permits_are_found() -> None:
    async def forge(engine: tofu.Engine) -> None:
        engine._gate.pool.free.extend([None, None])

    with pytest.raises(AssertionError, match="of 1 permits are free"):
        held(forge)
