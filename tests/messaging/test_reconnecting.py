"""One channel after another: what is retried, what is not, and that nothing is left behind."""

from __future__ import annotations

import asyncio
import logging
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

import tofu_aio as tofu
from tests.conftest import HAS_UDS
from tests.messaging.certificates import server_context
from tests.messaging.peers import RawServer, connection_of, frame, turns, until
from tofu_aio import OpCode, State
from tofu_aio.messaging.connection import closing as closing_module
from tofu_aio.transport import transports

SOON = tofu.Backoff(initial=0.001, maximum=0.002)
Reconnect = Callable[..., tofu.Reconnecting]


@pytest.fixture(params=["own engine", "group"])
def reconnect(request: pytest.FixtureRequest, group: tofu.ChannelGroup) -> Reconnect:
    """Both ways to get one, without long waits."""
    make = tofu.reconnecting if request.param == "own engine" else group.reconnecting
    return lambda *addresses, **options: make(*addresses, **{"backoff": SOON, **options})


@asynccontextmanager
async def serving(
    group: tofu.ChannelGroup, handler: Callable[[tofu.Channel], object] | None = None
) -> AsyncIterator[tofu.Listener]:
    """A listener whose channels send their number and then a Bye, unless ``handler`` is given."""
    numbers = iter(range(1000))

    async def say_number(channel: tofu.Channel) -> None:
        await channel.signal(b"%d" % next(numbers))

    async with await group.listen("tcp://127.0.0.1:0") as listener, anyio.create_task_group() as t:
        t.start_soon(listener.serve, handler or say_number)
        yield listener
        t.cancel_scope.cancel()


async def count_of_tasks() -> int:
    """How many there are while no client connects. A proactor accepts in new tasks each time."""
    await turns(5)
    return len(asyncio.all_tasks())


def nobody_there() -> tofu.Address:
    """An address without a listener."""
    with RawServer() as server:
        return tofu.parse_address(server.address)


def ours(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    """The lines of the log, without asyncio's complaints about a slow machine."""
    return [record for record in caplog.records if record.name.startswith("tofu_aio")]


def said(caplog: pytest.LogCaptureFixture, level: int) -> list[str]:
    """Its lines at one level."""
    return [record.getMessage() for record in ours(caplog) if record.levelno == level]


async def wait_for_end(channel: tofu.Channel) -> None:
    async for message in channel:
        message.release()


# --- turns -----------------------------------------------------------------------------------


async def test_each_turn_has_a_fresh_channel_and_the_one_before_is_closed(
    reconnect: Reconnect, group: tofu.ChannelGroup
) -> None:
    channels: list[tofu.Channel] = []
    async with serving(group) as listener:
        async for channel in reconnect(listener.address):
            assert channel.state is not State.CLOSED  # its Bye may have come with its Hello
            assert all(before.state is State.CLOSED for before in channels)
            with await channel.receive() as message:
                assert message.body == b"%d" % len(channels)
            channels.append(channel)
            if len(channels) == 5:
                break
    assert len(set(map(id, channels))) == 5
    await until(lambda: channels[-1].state is State.CLOSED)


async def test_a_turn_that_ends_early_closes_its_channel_with_a_bye(
    reconnect: Reconnect, group: tofu.ChannelGroup
) -> None:
    ends: list[tofu.TofuError | None] = []

    async def until_its_end(channel: tofu.Channel) -> None:
        await wait_for_end(channel)
        ends.append(channel.end)

    async with serving(group, until_its_end) as listener:
        turns = 0
        async for channel in reconnect(listener.address):
            await channel.signal()
            turns += 1
            if turns == 3:
                break
        await until(lambda: len(ends) == 3)
    assert all(isinstance(end, tofu.ChannelEnded | None) for end in ends)


async def test_the_options_are_those_of_connect(
    reconnect: Reconnect, group: tofu.ChannelGroup, listener: tofu.Listener
) -> None:
    pairs = iter([("User", "Ada"), ("User", "Eve")])
    channels = reconnect(listener.address, headers=pairs, body=b"hi", timeout=20, heartbeat=3600.0)
    for _ in range(2):  # headers that can be iterated once are there at each attempt
        connecting = asyncio.create_task(anext(channels))
        server = await listener.accept()
        assert server.hello.headers.get_all("User") == ["Ada", "Eve"]
        assert (server.hello.body, server.hello.headers["~heartbeat"]) == (b"hi", "3600000")
        client = await connecting
        await asyncio.gather(client.aclose(), server.aclose())


async def test_the_pool_can_be_chosen(group: tofu.ChannelGroup) -> None:
    async with serving(group) as listener:
        async for channel in tofu.reconnecting(listener.address, pool_messages=3):
            assert connection_of(channel).gate.pool.size == 3
            await wait_for_end(channel)
            break
    with pytest.raises(ValueError, match="give 1 to 524344"):
        tofu.reconnecting(listener.address, pool_messages=0)


# --- made for each attempt -------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["plain", "async"])
async def test_functions_make_headers_and_body_for_each_attempt(
    reconnect: Reconnect, raw_server: RawServer, kind: str
) -> None:
    """Also for one that fails: the token of the next one is as fresh."""
    made = iter(range(100))

    def body() -> bytes:
        return b"%d" % next(made)

    async def headers() -> dict[str, str]:
        await asyncio.sleep(0)
        return {"Token": str(next(made))}

    async def body_later() -> bytes:
        return body()

    channels = reconnect(
        raw_server.address,
        headers=headers if kind == "async" else lambda: {"Token": str(next(made))},
        body=body_later if kind == "async" else body,
    )
    connecting = asyncio.create_task(anext(channels))
    for attempt in range(3):
        with await raw_server.accept() as peer:
            hello = await peer.message()
            assert hello.headers["Token"] == str(2 * attempt)
            assert hello.body == b"%d" % (2 * attempt + 1)
            if attempt == 2:
                await peer.send(frame(OpCode.HELLO_RESPONSE, message_id=hello.message_id))
                (await connecting).abort()


class EnoughError(Exception):
    """An error with which a program stops trying."""


@pytest.mark.parametrize("error", [EnoughError, tofu.ConnectFailed, tofu.ChannelClosed])
@pytest.mark.parametrize("which", ["headers", "body"])
async def test_what_such_a_function_raises_ends_it(
    reconnect: Reconnect, raw_server: RawServer, error: type[Exception], which: str
) -> None:
    """Even what would be retried, and what would end it quietly, if connecting raised it."""
    failures: list[tofu.TofuError] = []

    def give_up() -> bytes:
        raise error("no token")

    options = {which: give_up, "on_failure": failures.append}
    with pytest.raises(error, match="no token"):
        await anext(reconnect(raw_server.address, **options))
    assert not failures


async def test_what_such_a_function_makes_must_fit(
    reconnect: Reconnect, raw_server: RawServer
) -> None:
    with pytest.raises(tofu.InvalidMessage):
        await anext(reconnect(raw_server.address, headers=lambda: {"a": "b\r\nc"}))
    with pytest.raises(TypeError, match="body"):
        await anext(reconnect(raw_server.address, body=lambda: "text"))


# --- several addresses -----------------------------------------------------------------------


async def test_addresses_are_tried_in_turn_and_the_wait_is_for_all_of_them(
    reconnect: Reconnect, group: tofu.ChannelGroup, caplog: pytest.LogCaptureFixture
) -> None:
    waits, failures = Waits(), list[str]()
    addresses = [nobody_there(), nobody_there(), nobody_there()]

    def failed(error: tofu.TofuError) -> None:
        failures.append(str(error))
        if len(failures) == 9:
            raise EnoughError

    with pytest.raises(EnoughError):
        await anext(reconnect(*addresses, backoff=waits.backoff(), on_failure=failed))
    tried = [next(a for a in addresses if f"{a}:" in failure) for failure in failures]
    assert tried == addresses * 3
    assert waits.bounds == [1, 2], "between the rounds"
    (warning,) = said(caplog, logging.WARNING)
    assert all(str(address) in warning for address in addresses)


async def test_the_one_that_works_is_the_first_from_then_on(
    reconnect: Reconnect, group: tofu.ChannelGroup, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "tofu_aio.reconnect")
    failures: list[tofu.TofuError] = []
    down = nobody_there()
    async with serving(group) as one, serving(group) as other:
        channels = reconnect(down, one.address, other.address, on_failure=failures.append)
        for _ in range(3):
            channel = await anext(channels)
            assert channel.peer.address == one.address
            await wait_for_end(channel)
        assert len(failures) == 1
        await one.aclose()
        channel = await anext(channels)
        assert channel.peer.address == other.address
        await wait_for_end(channel)
        assert len(failures) == 2, "it began with the one that had worked"
        await channels.aclose()
    assert not ours(caplog), "there was a listener all the time"


async def test_after_the_last_comes_the_first(
    reconnect: Reconnect, group: tofu.ChannelGroup
) -> None:
    async with serving(group) as one, serving(group) as other:
        channels = reconnect(one.address, other.address)
        for listener, leaves in ((one, True), (other, False), (other, True)):
            channel = await anext(channels)
            assert channel.peer.address == listener.address
            await wait_for_end(channel)
            if leaves:
                await listener.aclose()
        async with await group.listen(one.address) as back:
            connecting = asyncio.create_task(anext(channels))
            server = await back.accept()
            client = await connecting
            await asyncio.gather(client.aclose(), server.aclose())


async def test_one_that_accepts_and_drops_is_no_longer_the_first(
    reconnect: Reconnect, group: tofu.ChannelGroup
) -> None:
    async def drop(channel: tofu.Channel) -> None:
        channel.abort()

    async with serving(group, drop) as bad, serving(group) as good:
        channels = reconnect(bad.address, good.address, backoff=Waits().backoff())
        channel = await anext(channels)
        with pytest.raises(tofu.PeerDisconnected):
            await channel.receive()
        for _ in range(2):
            channel = await anext(channels)
            assert channel.peer.address == good.address
            await wait_for_end(channel)
        await channels.aclose()


@pytest.mark.parametrize("how", ["waits", "aborts"])
async def test_one_that_hangs_is_no_longer_the_first(
    reconnect: Reconnect, group: tofu.ChannelGroup, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """However long it had worked before."""
    monkeypatch.setattr(closing_module, "BYE_TIMEOUT", 0.01)
    with RawServer() as hung:
        async with serving(group) as good:
            channels = reconnect(hung.address, good.address)
            connecting = asyncio.create_task(anext(channels))
            with await hung.accept() as peer:
                asked = await peer.message()
                await peer.send(frame(OpCode.HELLO_RESPONSE, message_id=asked.message_id))
                channel = await connecting
                with pytest.raises(TimeoutError):
                    await channel.request(timeout=5 * SOON.maximum)
                if how == "aborts":
                    channel.abort()
                for _ in range(2):
                    channel = await anext(channels)
                    assert channel.peer.address == good.address
                    await wait_for_end(channel)
                await channels.aclose()
        with pytest.raises(BlockingIOError):
            hung.sock.accept()  # no client has connected again


async def test_one_that_resets_on_our_bye_is_no_longer_the_first(
    reconnect: Reconnect, group: tofu.ChannelGroup
) -> None:
    with RawServer() as bad:
        async with serving(group) as good:
            channels = reconnect(bad.address, good.address, backoff=Waits().backoff())
            connecting = asyncio.create_task(anext(channels))
            with await bad.accept() as peer:
                asked = await peer.message()
                await peer.send(frame(OpCode.HELLO_RESPONSE, message_id=asked.message_id))
                await connecting
                going_on = asyncio.create_task(anext(channels))
                assert (await peer.message()).op_code is OpCode.BYE_REQUEST
                await peer.reset()
            assert (await going_on).peer.address == good.address
            await channels.aclose()
        with pytest.raises(BlockingIOError):
            bad.sock.accept()  # no client has connected again


async def test_each_address_is_looked_at_before_any_is_tried(reconnect: Reconnect) -> None:
    with pytest.raises(tofu.InvalidAddress, match="port is missing"):
        reconnect("tcp://127.0.0.1:1", "tcp://localhost")
    with pytest.raises(TypeError, match=r"str or an Address, not \['tcp"):
        reconnect(["tcp://127.0.0.1:1"])


# --- failing ---------------------------------------------------------------------------------


async def test_it_goes_on_until_somebody_listens_and_tells_why_it_could_not(
    reconnect: Reconnect, group: tofu.ChannelGroup, caplog: pytest.LogCaptureFixture
) -> None:
    """To on_failure each time; to the log once when it begins and once when it is over."""
    caplog.set_level(logging.DEBUG, "tofu_aio.reconnect")
    where = nobody_there()
    failures: list[tofu.TofuError] = []
    starting: list[asyncio.Task[tofu.Listener]] = []

    def failed(error: tofu.TofuError) -> None:
        failures.append(error)
        if len(failures) == 3:
            starting.append(asyncio.create_task(group.listen(where)))

    channels = reconnect(where, on_failure=failed)
    connecting = asyncio.create_task(anext(channels))
    await until(lambda: starting and starting[0].done())
    async with await starting[0] as listener:
        server = await listener.accept()
        client = await connecting
        await asyncio.gather(client.aclose(), server.aclose())
    assert len(failures) >= 3
    assert all(isinstance(error, tofu.ConnectFailed) for error in failures)
    assert "nobody is listening there" in str(failures[0])
    (warning,) = said(caplog, logging.WARNING)
    assert warning == f"no connection, trying until there is one: {failures[0]}"
    (over,) = said(caplog, logging.INFO)
    assert over.startswith(f"connected to {where} after ")
    assert over.endswith(f" s, at attempt {len(failures) + 1}")
    assert said(caplog, logging.DEBUG) == [
        f"attempt {number} to connect failed: {error}" for number, error in enumerate(failures, 1)
    ]


async def test_each_outage_is_told_of_and_no_channel_that_came_at_once(
    reconnect: Reconnect, group: tofu.ChannelGroup, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "tofu_aio.reconnect")
    failed = asyncio.Event()
    listener = await group.listen("tcp://127.0.0.1:0")
    channels = reconnect(listener.address, on_failure=lambda _: failed.set())
    for outages in (0, 1, 2):
        failed.clear()
        connecting = asyncio.create_task(anext(channels))
        if outages:
            await failed.wait()
            listener = await group.listen(listener.address)
        server = await listener.accept()
        await listener.aclose()
        client = await connecting
        await asyncio.gather(client.aclose(), server.aclose())
        levels = [record.levelno for record in ours(caplog)]
        assert levels == [logging.WARNING, logging.INFO] * outages


@pytest.mark.skipif(not HAS_UDS, reason="this Python has no Unix sockets on this system")
async def test_a_path_without_a_socket_may_get_one(
    reconnect: Reconnect, group: tofu.ChannelGroup, socket_path: str
) -> None:
    tried = asyncio.Event()
    channels = reconnect(f"uds://{socket_path}", on_failure=lambda _: tried.set())
    connecting = asyncio.create_task(anext(channels))
    await tried.wait()
    async with await group.listen(f"uds://{socket_path}") as listener:
        server = await listener.accept()
        client = await connecting
        await asyncio.gather(client.aclose(), server.aclose())


async def test_a_host_without_an_address_may_get_one(
    reconnect: Reconnect, group: tofu.ChannelGroup, monkeypatch: pytest.MonkeyPatch
) -> None:
    reasons: list[tofu.TofuError] = []
    with pytest.raises(tofu.ConnectFailed) as unresolved:
        await group.connect("tcp://no.such.host.invalid:1")
    connect = transports.connect

    async def resolve_later(*arguments: Any) -> Any:
        if not reasons:
            raise unresolved.value
        return await connect(*arguments)

    async with serving(group) as listener:
        monkeypatch.setattr(transports, "connect", resolve_later)
        async for channel in reconnect(listener.address, on_failure=reasons.append):
            await wait_for_end(channel)
            break
    assert reasons == [unresolved.value]


async def test_who_refuses_may_change_his_mind(reconnect: Reconnect, raw_server: RawServer) -> None:
    failures: list[tofu.TofuError] = []
    connecting = asyncio.create_task(
        anext(reconnect(raw_server.address, on_failure=failures.append))
    )
    (await raw_server.accept()).close()
    with await raw_server.accept() as peer:
        hello = await peer.message()
        await peer.send(frame(OpCode.HELLO_RESPONSE, message_id=hello.message_id, status=3))
        assert await peer.end() == b""
    with await raw_server.accept() as peer:
        hello = await peer.message()
        await peer.send(frame(OpCode.HELLO_RESPONSE, message_id=hello.message_id))
        channel = await connecting
        channel.abort()
    assert [type(error) for error in failures] == [tofu.ConnectFailed] * 2
    assert "refused the channel: not_allowed" in str(failures[1])


async def test_who_does_not_answer_in_time_may_be_faster_next_time(
    reconnect: Reconnect, raw_server: RawServer
) -> None:
    failures: list[tofu.TofuError] = []
    connecting = asyncio.create_task(
        anext(reconnect(raw_server.address, timeout=0.05, on_failure=failures.append))
    )
    with await raw_server.accept() as silent:
        await until(lambda: failures)
        await silent.end()
    connecting.cancel()
    await asyncio.wait([connecting])
    assert "did not accept the channel within 0.05 s" in str(failures[0])


NO_CURE = {
    "a malformed address": ({"address": "nonsense"}, tofu.InvalidAddress),
    "an address for listening": ({"address": "tcp://127.0.0.1:0"}, tofu.WrongAddress),
    "a path that is too long": ({"address": f"uds:///{'x' * 200}"}, tofu.InvalidAddress),
    "a body that is none": ({"body": "text"}, TypeError),
    "a body that is too long": ({"body": bytes(65536)}, tofu.InvalidBodyLen),
    "headers that are none": ({"headers": {"a": 1}}, TypeError),
    "headers with a line end": ({"headers": {"a": "b\r\nc"}}, tofu.InvalidMessage),
    "a heartbeat that cannot be": ({"heartbeat": 0}, ValueError),
    "an option that is none": ({"nonsense": 1}, TypeError),
}


@pytest.mark.parametrize(("options", "error"), NO_CURE.values(), ids=NO_CURE)
async def test_what_no_other_attempt_would_cure_is_raised_at_once(
    reconnect: Reconnect,
    raw_server: RawServer,
    options: dict[str, object],
    error: type[Exception],
) -> None:
    failures: list[tofu.TofuError] = []
    options = {"address": raw_server.address, "on_failure": failures.append, **options}
    with pytest.raises(error):
        await anext(reconnect(**options))
    assert not failures


@pytest.mark.parametrize("enough", [EnoughError, tofu.ChannelClosed])
async def test_what_on_failure_raises_ends_it(
    reconnect: Reconnect, enough: type[Exception]
) -> None:
    def give_up(error: tofu.TofuError) -> None:
        raise enough("enough") from error

    with pytest.raises(enough) as raised:
        await anext(reconnect(nobody_there(), on_failure=give_up))
    assert isinstance(raised.value.__cause__, tofu.ConnectFailed)


async def test_whom_we_do_not_trust_is_not_asked_again(
    reconnect: Reconnect, group: tofu.ChannelGroup
) -> None:
    failures: list[tofu.TofuError] = []
    async with await group.listen("tcp://127.0.0.1:0", ssl=server_context()) as listener:
        with pytest.raises(tofu.ConnectFailed, match="certificate is not valid"):
            await anext(
                reconnect(
                    listener.address, ssl=ssl.create_default_context(), on_failure=failures.append
                )
            )
    assert not failures


# --- waiting ---------------------------------------------------------------------------------


class Waits:
    """A back-off's chance that waits not at all, and notes how long it might have."""

    def __init__(self) -> None:
        self.bounds: list[float] = []

    def __call__(self, low: float, high: float) -> float:
        self.bounds.append(high)
        return low

    def backoff(self, maximum: float = 30.0) -> tofu.Backoff:
        return tofu.Backoff(initial=1, maximum=maximum, random=self)


async def test_the_waits_grow_while_attempts_fail(reconnect: Reconnect) -> None:
    waits, failures = Waits(), asyncio.Semaphore(0)
    where = nobody_there()
    connecting = asyncio.create_task(
        anext(reconnect(where, backoff=waits.backoff(), on_failure=lambda _: failures.release()))
    )
    for _ in range(7):
        await failures.acquire()
    connecting.cancel()
    await asyncio.wait([connecting])
    assert waits.bounds[:6] == [1, 2, 4, 8, 16, 30], "none before the first attempt"


async def test_they_grow_while_channels_die_young(
    reconnect: Reconnect, group: tofu.ChannelGroup
) -> None:
    waits = Waits()
    async with serving(group) as listener:
        async for channel in reconnect(listener.address, backoff=waits.backoff()):
            await wait_for_end(channel)
            if len(waits.bounds) == 4:
                break
    assert waits.bounds == [1, 2, 4, 8]


async def test_they_start_anew_after_a_channel_that_lived(
    reconnect: Reconnect, group: tofu.ChannelGroup
) -> None:
    waits = Waits()
    backoff = tofu.Backoff(initial=0.01, maximum=0.05, random=waits)
    loop = asyncio.get_running_loop()
    async with serving(group) as listener:
        async for channel in reconnect(listener.address, backoff=backoff):
            since = loop.time()
            await wait_for_end(channel)
            if len(waits.bounds) == 3:
                await until(lambda since=since: loop.time() - since > 0.1)  # type: ignore[misc]
            elif len(waits.bounds) == 4:
                break
    assert waits.bounds[3] == 0.01


# --- ending ----------------------------------------------------------------------------------


async def stay(channel: tofu.Channel) -> None:
    await asyncio.get_running_loop().create_future()


@pytest.mark.parametrize("how", ["break", "return", "raise", "cancel", "drop"])
async def test_however_the_loop_is_left_nothing_stays(
    reconnect: Reconnect, group: tofu.ChannelGroup, how: str
) -> None:
    """The conftest checks for tasks, descriptors, permits and errors that the loop was given."""
    channels: list[tofu.Channel] = []

    async def loop(listener: tofu.Listener) -> None:
        async for channel in reconnect(listener.address):
            channels.append(channel)
            if how == "break":
                break
            if how == "return":
                return
            if how == "raise":
                raise ZeroDivisionError
            await asyncio.get_running_loop().create_future()

    async with serving(group, wait_for_end) as listener:
        before = await count_of_tasks()
        if how == "drop":
            channels.append(await anext(reconnect(listener.address)))
        else:
            looping = asyncio.create_task(loop(listener))
            await until(lambda: channels)
            if how == "cancel":
                looping.cancel()
            await asyncio.wait([looping])
            if how == "raise":
                assert isinstance(looping.exception(), ZeroDivisionError)
        await until(lambda: channels[0].state is State.CLOSED)
        await connection_of(channels[0]).closing.done
        await until(lambda: len(asyncio.all_tasks()) == before)


async def test_left_with_the_channel_closed_nothing_is_left_to_do(
    reconnect: Reconnect, group: tofu.ChannelGroup
) -> None:
    async with serving(group, wait_for_end) as listener:
        before = await count_of_tasks()
        async for channel in reconnect(listener.address):
            async with channel:
                break
        assert channel.state is State.CLOSED
        async with aclosing(reconnect(listener.address)) as channels:
            channel = await anext(channels)
        assert channel.state is State.CLOSED
        await until(lambda: len(asyncio.all_tasks()) == before)


async def test_a_peer_that_does_not_answer_the_bye_is_left_all_the_same(
    reconnect: Reconnect, raw_server: RawServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tofu_aio.messaging.connection import closing

    monkeypatch.setattr(closing, "BYE_TIMEOUT", 0.05)
    connecting = asyncio.create_task(anext(reconnect(raw_server.address)))
    with await raw_server.accept() as peer:
        hello = await peer.message()
        await peer.send(frame(OpCode.HELLO_RESPONSE, message_id=hello.message_id))
        channel = await connecting
        del connecting
        assert (await peer.message()).op_code is OpCode.BYE_REQUEST
        await until(lambda: channel.state is State.CLOSED)
        assert await peer.end() == b""
    assert "did not answer Bye within 0.05 s" in str(channel.end)


@pytest.mark.parametrize("stage", ["connecting", "waiting", "closing"])
async def test_cancelled_while_it_brings_a_channel_nothing_stays(
    reconnect: Reconnect, raw_server: RawServer, stage: str
) -> None:
    failed = asyncio.Event()
    slow = tofu.Backoff(initial=1000, maximum=1000, random=lambda _, high: high)
    channels = reconnect(raw_server.address, backoff=slow, on_failure=lambda _: failed.set())
    bringing = asyncio.create_task(anext(channels))
    with await raw_server.accept() as peer:
        hello = await peer.message()
        if stage == "waiting":
            peer.close()
            await failed.wait()
        elif stage == "closing":
            await peer.send(frame(OpCode.HELLO_RESPONSE, message_id=hello.message_id))
            channel = await bringing
            bringing = asyncio.create_task(anext(channels))
            assert (await peer.message()).op_code is OpCode.BYE_REQUEST
        bringing.cancel()
        await asyncio.wait([bringing])
        assert bringing.cancelled()
        if stage == "closing":
            assert channel.state is State.CLOSED


@pytest.mark.parametrize("stage", ["waiting", "in the turn", "before"])
async def test_it_ends_with_its_group(
    engine: tofu.Engine, raw_server: RawServer, stage: str
) -> None:
    failed = asyncio.Event()
    never = tofu.Backoff(initial=1000, maximum=1000, random=lambda _, high: high)
    async with engine.create_group() as group:
        channels = group.reconnecting(
            raw_server.address, backoff=never, on_failure=lambda _: failed.set()
        )
        if stage == "before":
            await group.aclose()
            with pytest.raises(StopAsyncIteration):
                await anext(channels)
            return
        bringing = asyncio.create_task(anext(channels, None))
        with await raw_server.accept() as peer:
            hello = await peer.message()
            if stage == "waiting":
                peer.close()
                await failed.wait()
                await group.aclose()
                assert await bringing is None
            else:
                await peer.send(frame(OpCode.HELLO_RESPONSE, message_id=hello.message_id))
                channel = await bringing
                assert channel is not None
                channel.abort()
                await group.aclose()
                assert await anext(channels, None) is None


async def test_two_tasks_cannot_share_one(reconnect: Reconnect, raw_server: RawServer) -> None:
    channels = reconnect(raw_server.address)
    bringing = asyncio.create_task(anext(channels))
    with await raw_server.accept(), pytest.raises(anyio.BusyResourceError):
        await anext(channels)
    bringing.cancel()
    await asyncio.wait([bringing])


SCRIPT = """
import asyncio, sys
import tofu_aio as tofu

async def main():
    asyncio.get_running_loop().slow_callback_duration = 60  # a busy machine is no matter here
    async for channel in tofu.reconnecting(sys.argv[1]):
        await channel.signal(b"all there is to say")
        break

with asyncio.Runner(loop_factory=tofu.loop_factory(sys.argv[2])) as runner:
    runner.run(main())
"""


async def test_a_program_that_ends_with_the_loop_says_bye_and_no_warning(
    group: tofu.ChannelGroup, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    name = request.node.callspec.id
    async with await group.listen("tcp://127.0.0.1:0") as listener:
        running = asyncio.create_task(
            asyncio.to_thread(
                subprocess.run,
                [
                    *(sys.executable, "-X", "dev", "-W", "error", "-c", SCRIPT),
                    *(str(listener.address), name),
                ],
                capture_output=True,
                text=True,
                timeout=60,
            )
        )
        channel = await listener.accept()
        heard = [message.body async for message in channel]
    assert heard == [b"all there is to say"]
    assert isinstance(channel.end, tofu.ChannelEnded | tofu.PeerDisconnected | None)
    await channel.aclose()
    ended = await running
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
