"""Posting, waking and allocating from any thread: in order, without loss, and without a hang."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from itertools import chain
from queue import SimpleQueue

import pytest

import tofu_aio as tofu
from tests.conftest import _LOOPS
from tests.messaging.conftest import Connect
from tests.messaging.peers import RawServer, frame, turns, until
from tests.messaging.posting.test_posted import (
    Ends,
    ends,
    get,
    get_plain,
    greeting,
    listening,
    message,
    nothing_more,
    opened,
    told,
    welcome,
)
from tofu_aio import OpCode, Origin, Status
from tofu_aio.messaging.connection import closing as closing_module
from tofu_aio.messaging.numbers import NumberedTable
from tofu_aio.messaging.posting.posted import PostedChannel
from tofu_aio.messaging.threads import call_queue
from tofu_aio.messaging.threads.call_queue import CallQueue
from tofu_aio.messaging.threads.owner_loop import OwnerLoop
from tofu_aio.worker_threads import RevocableCall

__all__ = ["ends"]

THREADS = 8
MANY = 200
POOL = 8  # of the fixture "engine"


def blocking_the_loop(function: Callable[[], object]) -> None:
    """Run a function in a thread, while the loop is blocked."""
    failed: list[BaseException] = []

    def run() -> None:
        try:
            function()
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if failed:
        raise failed[0]


def alive(engine: tofu.Engine) -> int:
    """The permits and reserves that messages hold."""
    now = engine.statistics()
    return now.pool_size - now.pool_free + now.reserves


@contextmanager
def threads(function: Callable[[int], None], count: int = THREADS) -> Iterator[None]:
    """Run function(n) in several threads during the block, and wait for them at its end."""
    failed: list[BaseException] = []
    begin = threading.Barrier(count)

    def run(number: int) -> None:
        try:
            begin.wait()
            function(number)
        except BaseException as error:
            failed.append(error)

    started = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in started:
        thread.start()
    try:
        yield
    finally:
        for thread in started:
            thread.join()
    if failed:
        raise failed[0]


async def in_threads(function: Callable[[int], None], count: int = THREADS) -> None:
    """The same, while the loop runs."""

    def run() -> None:
        with threads(function, count):
            pass

    await asyncio.to_thread(run)


@pytest.fixture
def wake_ups(monkeypatch: pytest.MonkeyPatch) -> list[None]:
    """The wake-ups of the loop."""
    asked: list[None] = []
    call_soon = OwnerLoop.call_soon

    def counted(self: OwnerLoop, callback: Callable[[], None]) -> None:
        asked.append(None)
        call_soon(self, callback)

    monkeypatch.setattr(OwnerLoop, "call_soon", counted)
    return asked


# --- posting -----------------------------------------------------------------------------------


async def test_a_whole_conversation_from_another_thread(
    engine: tofu.Engine, transport_address: str
) -> None:
    """A thread can open, accept, send and close; only receiving has to be done in the loop."""
    client, server = engine.create_group(), engine.create_group()
    loop = asyncio.get_running_loop()

    def heard(group: tofu.ChannelGroup) -> tofu.Message:
        return asyncio.run_coroutine_threadsafe(get(group), loop).result()

    def converse() -> None:
        listener = server.post(welcome(transport_address))
        answer = heard(server)
        assert (answer.op_code, answer.status) == (OpCode.WELCOME_RESPONSE, Status.SUCCESS)
        assert answer.message_id == listener.message_id
        assert answer.channel_number == listener.channel_number
        c = client.post(greeting(answer.headers["~listen_on"])).channel_number
        s = heard(server).channel_number
        # At once after it: only the loop knows whether the channel is open.
        server.post(message(OpCode.HELLO_RESPONSE, s))
        server.post(message(OpCode.SIGNAL, s, b"welcome"))
        assert heard(client).op_code is OpCode.HELLO_RESPONSE
        assert heard(client).body == b"welcome"
        asked = client.post(message(OpCode.REQUEST, c, b"question"))
        with heard(server) as request:
            assert (request.message_id, request.body) == (asked.message_id, b"question")
            server.post(message(OpCode.RESPONSE, s, b"answer", message_id=request.message_id))
        with heard(client) as response:
            assert (response.message_id, response.body) == (asked.message_id, b"answer")
        bye = client.post(message(OpCode.BYE_REQUEST, c))
        assert heard(server).message_id == bye.message_id
        server.post(message(OpCode.BYE_RESPONSE, s))
        assert heard(client).op_code is OpCode.BYE_RESPONSE
        for group, number in ((client, c), (server, s)):
            last = heard(group)
            assert (last.status, last.channel_number) == (Status.CHANNEL_CLOSED, number)
        server.post(message(OpCode.BYE_SIGNAL, listener.channel_number))
        assert heard(server).status is Status.CHANNEL_CLOSED

    await asyncio.to_thread(converse)
    await nothing_more(client)
    await nothing_more(server)
    await asyncio.gather(client.aclose(), server.aclose())


async def test_each_thread_s_messages_arrive_in_its_order(ends: Ends) -> None:
    client, server, c, _s, _, _ = ends

    def post(thread: int) -> None:
        for number in range(MANY):
            client.post(message(OpCode.SIGNAL, c, b"%d %d" % (thread, number)))

    with threads(post):
        seen: dict[int, list[int]] = {}
        while sum(map(len, seen.values())) < THREADS * MANY:
            with await get(server) as m:
                if m.status is not Status.POOL_EMPTY:
                    thread, number = map(int, m.body.split())
                    seen.setdefault(thread, []).append(number)
    assert seen == {thread: list(range(MANY)) for thread in range(THREADS)}


async def test_what_a_thread_posts_at_once_wakes_the_loop_once(
    ends: Ends, wake_ups: list[None]
) -> None:
    client, server, c, _, _, _ = ends

    def post() -> None:
        for number in range(MANY):
            client.post(message(OpCode.SIGNAL, c, b"%d" % number))

    for _ in range(2):
        wake_ups.clear()
        blocking_the_loop(post)
        assert len(wake_ups) == 1
        bodies = [entry[4] for entry in await get_plain(server, MANY + 1) if entry[2]]
        assert bodies == [b"%d" % number for number in range(MANY)]


async def test_threads_that_never_pause_leave_the_loop_its_turns(
    ends: Ends, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(call_queue, "CALLS_A_TURN", 10)
    client, _server, _c, _, _, _ = ends
    blocking_the_loop(lambda: [client.update_receiver() for _ in range(25)])
    seen = []
    for _ in range(4):
        seen.append(len(client._posting.mailbox.items))
        await turns(1)
    assert seen == [0, 10, 20, 25]
    await get_plain(client, 25)


async def test_what_is_posted_is_the_message_as_it_was(ends: Ends) -> None:
    client, server, c, s, _, _ = ends

    def post() -> None:
        m = message(OpCode.SIGNAL, c, b"before", {"a": "b"})
        m.status = Status.PROCESSING_FAILED
        header = client.post(m)
        assert (header.channel_number, header.op_code) == (c, OpCode.SIGNAL)
        assert (header.text_headers_len, header.body_len) == (5, 6)
        m.body, m.channel_number, m.status = b"after", 0, Status.SUCCESS
        m.headers = tofu.TextHeaders()

    blocking_the_loop(post)
    with await get(server) as m:
        assert (m.body, m.headers, m.channel_number) == (b"before", {"a": "b"}, s)
        assert m.status is Status.PROCESSING_FAILED


async def test_post_checks_in_the_thread_that_posts(ends: Ends, engine: tofu.Engine) -> None:
    client, server, c, s, listener, where = ends
    stream = await server.listen("tcp://127.0.0.1:0")
    free = engine.statistics().channels
    taken = greeting(where)
    taken.channel_number = c
    long = message(OpCode.SIGNAL, c)
    long.body = bytes(65536)
    unfit = message(OpCode.SIGNAL, c)
    unfit.message_id = 2**64
    refused: list[tuple[type[tofu.TofuError], tofu.ChannelGroup, tofu.Message | None]] = [
        (tofu.NullMessage, client, None),
        (tofu.InvalidChannelNumber, client, message(OpCode.SIGNAL, 0)),
        (tofu.InvalidChannelNumber, client, message(OpCode.SIGNAL, 65535)),
        (tofu.InvalidChannelNumber, client, taken),
        (tofu.InvalidChannelGroup, client, message(OpCode.SIGNAL, s)),
        (tofu.InvalidMessageId, client, message(OpCode.RESPONSE, c)),
        (tofu.InvalidMessageId, client, unfit),
        (tofu.InvalidBodyLen, client, long),
        (tofu.InvalidAddress, client, message(OpCode.HELLO_REQUEST)),
        (tofu.InvalidAddress, client, message(OpCode.WELCOME_REQUEST)),
        (tofu.InvalidAddress, client, message(OpCode.HELLO_REQUEST, 0, b"", {"~connect_to": "x"})),
        (tofu.NotAllowed, client, message(OpCode.HELLO_RESPONSE, c, message_id=1)),
        (tofu.NotAllowed, client, message(OpCode.WELCOME_RESPONSE, c, message_id=1)),
        (tofu.NotAllowed, client, message(OpCode.BYE_RESPONSE, c, message_id=1)),
        (tofu.NotAllowed, server, message(OpCode.SIGNAL, listener)),
        (tofu.NotAllowed, server, message(OpCode.SIGNAL, stream.channel_number)),
    ]
    for error, group, bad in refused:

        def post(group: tofu.ChannelGroup = group, bad: tofu.Message | None = bad) -> None:
            group.post(bad)  # type: ignore[arg-type]

        with pytest.raises(error) as here:
            post()
        with pytest.raises(error) as there:
            blocking_the_loop(post)
        assert str(here.value) == str(there.value)
        await turns(1)
    assert engine.statistics().channels == free
    await stream.aclose()
    await nothing_more(client)
    await nothing_more(server)


async def test_numbers_given_in_threads_are_never_the_same(
    engine: tofu.Engine, raw_server: RawServer
) -> None:
    group = engine.create_group()
    numbers: list[int] = []

    def post(_: int) -> None:
        numbers.extend(group.post(greeting(raw_server.address)).channel_number for _ in range(20))

    await in_threads(post)
    assert len(set(numbers)) == 20 * THREADS
    await group.aclose()


async def test_an_opening_of_a_thread_can_be_given_up_at_once(
    group: tofu.ChannelGroup, engine: tofu.Engine, raw_server: RawServer
) -> None:
    numbers = []

    def post() -> None:
        numbers.append(group.post(greeting(raw_server.address)).channel_number)
        group.post(message(OpCode.BYE_SIGNAL, numbers[0]))

    blocking_the_loop(post)
    assert await get_plain(group, 2) == [
        ("engine", OpCode.HELLO_REQUEST, numbers[0], Status.CONNECT_FAILED, b"hi"),
        told(Status.CHANNEL_CLOSED, numbers[0]),
    ]
    await until(lambda: not group._posting.openings.tasks)
    await nothing_more(group)


def test_a_number_is_claimed_before_it_is_checked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    table: NumberedTable[str] = NumberedTable()
    drawn = iter([7, 7, 9])
    others: list[int] = []

    class Interleaved(OrderedDict[int, None]):
        def __contains__(self, number: object) -> bool:
            if number == 7 and not others:
                others.append(table.add("another"))
            return super().__contains__(number)

    monkeypatch.setattr(random, "randint", lambda *_: next(drawn))
    table._reserved = Interleaved()
    assert (table.add("me"), others) == (7, [9])
    assert (table.get(7), table.get(9)) == ("me", "another")
    assert not table._claims


async def test_a_channel_ends_only_after_what_is_being_posted(
    ends: Ends, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thread whose message was accepted has posted it before channel_closed is notified."""
    client, server, c, s, _, _ = ends
    checked, go_on = threading.Event(), threading.Event()
    check = PostedChannel._check

    def slowly(self: PostedChannel, message: tofu.Message) -> int:
        message_id = check(self, message)
        checked.set()
        assert go_on.wait(20)
        return message_id

    monkeypatch.setattr(PostedChannel, "_check", slowly)
    posting = asyncio.create_task(
        asyncio.to_thread(client.post, message(OpCode.SIGNAL, c, b"in time"))
    )
    await until(checked.is_set)
    client.post(message(OpCode.BYE_SIGNAL, c))
    assert await get_plain(server, 2) == [
        told(Status.PEER_DISCONNECTED, s),
        told(Status.CHANNEL_CLOSED, s),
    ]
    await nothing_more(client)
    go_on.set()
    await posting
    assert await get_plain(client, 2) == [
        ("engine", OpCode.SIGNAL, c, Status.SEND_FAILED, b"in time"),
        told(Status.CHANNEL_CLOSED, c),
    ]


class Interrupted(BaseException):
    """The exception of a signal handler."""


async def test_what_an_interrupted_thread_has_posted_is_not_sent(
    ends: Ends, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, server, c, _, _, _ = ends

    def interrupted(*_: object) -> None:
        raise Interrupted

    with monkeypatch.context() as patch:
        patch.setattr(OwnerLoop, "call_soon", interrupted)
        with pytest.raises(Interrupted):
            blocking_the_loop(lambda: client.post(message(OpCode.SIGNAL, c, b"never")))
    blocking_the_loop(lambda: client.post(message(OpCode.SIGNAL, c, b"sent")))
    assert (await get(server)).body == b"sent"
    await nothing_more(server)


async def test_an_opening_that_an_interrupted_thread_has_posted_leaves_nothing(
    engine: tofu.Engine, group: tofu.ChannelGroup, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise Interrupted

    with monkeypatch.context() as patch:
        patch.setattr(OwnerLoop, "call_soon", interrupted)
        with pytest.raises(Interrupted):
            blocking_the_loop(lambda: group.post(welcome("tcp://127.0.0.1:0")))
    assert engine.statistics().channels == 0
    blocking_the_loop(lambda: group.post(welcome("tcp://127.0.0.1:0")))
    assert (await get(group)).status is Status.SUCCESS


async def test_what_comes_after_the_end_in_the_same_moment_is_refused(
    group: tofu.ChannelGroup, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The queue is closed between the thread's check and its submission."""
    calls = CallQueue(group._owner_loop)
    made: list[str] = []
    monkeypatch.setattr(
        OwnerLoop, "alive", property(lambda _: calls.close(tofu.ChannelClosed("now")) or True)
    )
    with pytest.raises(tofu.ChannelClosed, match="now"):
        calls.submit(RevocableCall(lambda: made.append("late")))
    calls._run()
    assert made == []


@pytest.mark.parametrize("name", _LOOPS)
def test_an_opening_posted_while_the_loop_stands_still_is_made_when_it_runs(name: str) -> None:
    loop = tofu.loop_factory(name)()
    do = loop.run_until_complete

    async def begin() -> tuple[tofu.Engine, tofu.ChannelGroup]:
        engine = await tofu.Engine(4).__aenter__()
        return engine, engine.create_group()

    engine, group = do(begin())
    opening = engine.get(tofu.Allocation.POOL_ONLY, OpCode.WELCOME_REQUEST)
    assert opening is not None
    opening.headers = tofu.TextHeaders({tofu.LISTEN_ON: "tcp://127.0.0.1:0"})
    number = group.post(opening).channel_number
    answer = do(group.receive())
    assert (answer.channel_number, answer.status) == (number, Status.SUCCESS)
    assert (engine.statistics().channels, engine.statistics().pool_free) == (1, 4)
    do(engine.aclose())
    loop.close()


# --- what fails too late to be raised ----------------------------------------------------------


async def test_what_fails_by_the_time_comes_back_before_the_end_of_its_channel(ends: Ends) -> None:
    client, server, c, s, _, _ = ends
    headers = []

    def post() -> None:
        headers.extend(
            client.post(message(OpCode.SIGNAL, c, b"%d" % number, {"a": "b"}))
            for number in range(3)
        )

    blocking_the_loop(post)
    client.post(message(OpCode.BYE_SIGNAL, c))  # of the loop's thread, so it comes first
    for number in range(3):
        back = await get(client)
        assert (back.origin, back.op_code) == (Origin.ENGINE, OpCode.SIGNAL)
        assert (back.status, back.channel_number) == (Status.SEND_FAILED, c)
        assert (back.body, back.headers) == (b"%d" % number, {"a": "b"})
        assert back.message_id == headers[number].message_id
    assert await get_plain(client, 1) == [told(Status.CHANNEL_CLOSED, c)]
    assert await get_plain(server, 2) == [
        told(Status.PEER_DISCONNECTED, s),
        told(Status.CHANNEL_CLOSED, s),
    ]


async def test_what_a_thread_posts_behind_its_own_reset_comes_back_before_the_end(
    group: tofu.ChannelGroup, engine: tofu.Engine, raw_server: RawServer
) -> None:
    """A channel that is not connected ends during the reset, but its end is still notified last."""
    numbers = []

    def post() -> None:
        numbers.append(group.post(greeting(raw_server.address)).channel_number)
        group.post(message(OpCode.BYE_SIGNAL, numbers[0]))
        group.post(message(OpCode.SIGNAL, numbers[0], b"too late"))

    blocking_the_loop(post)
    (number,) = numbers
    assert await get_plain(group, 3) == [
        ("engine", OpCode.HELLO_REQUEST, number, Status.CONNECT_FAILED, b"hi"),
        ("engine", OpCode.SIGNAL, number, Status.SEND_FAILED, b"too late"),
        told(Status.CHANNEL_CLOSED, number),
    ]
    await until(lambda: not group._posting.openings.tasks)
    await nothing_more(group)


async def test_nothing_can_be_posted_behind_channel_closed(
    group: tofu.ChannelGroup, raw_server: RawServer
) -> None:
    """It waits for what threads have posted before, even for a BYE_SIGNAL, allowed in any state."""
    number = group.post(greeting(raw_server.address)).channel_number
    reset = message(OpCode.BYE_SIGNAL, number)
    blocking_the_loop(lambda: group.post(reset))
    group.post(reset)  # not connected, it ends at once; channel_closed is behind the thread's reset
    with pytest.raises(tofu.InvalidChannelNumber, match="no channel"):
        blocking_the_loop(lambda: group.post(reset))
    assert await get_plain(group, 2) == [
        ("engine", OpCode.HELLO_REQUEST, number, Status.CONNECT_FAILED, b"hi"),
        told(Status.CHANNEL_CLOSED, number),
    ]
    await until(lambda: not group._posting.openings.tasks)
    await nothing_more(group)


async def test_nothing_can_be_posted_while_a_channel_is_forgotten(
    ends: Ends, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thread that posts at that moment does not mistake it for one that is being opened."""
    client, server, c, s, _, _ = ends
    reset = message(OpCode.BYE_SIGNAL, c)
    client.post(reset)
    blocking_the_loop(lambda: client.post(reset))  # so that channel_closed is notified after it
    refused = []
    remove = NumberedTable.remove

    def removed(self: NumberedTable[tofu.ChannelGroup], number: int) -> None:
        if number == c:
            with pytest.raises(tofu.InvalidChannelNumber):
                blocking_the_loop(lambda: client.post(reset))
            refused.append(number)
        remove(self, number)

    monkeypatch.setattr(NumberedTable, "remove", removed)
    assert await get_plain(client, 1) == [told(Status.CHANNEL_CLOSED, c)]
    assert refused == [c]
    assert await get_plain(server, 2) == [
        told(Status.PEER_DISCONNECTED, s),
        told(Status.CHANNEL_CLOSED, s),
    ]


async def test_what_a_thread_posts_after_its_own_bye_comes_back(ends: Ends) -> None:
    client, server, c, s, _, _ = ends

    def post() -> None:
        client.post(message(OpCode.BYE_REQUEST, c))
        client.post(message(OpCode.SIGNAL, c, b"too late"))

    blocking_the_loop(post)
    assert await get_plain(client, 1) == [
        ("engine", OpCode.SIGNAL, c, Status.SEND_FAILED, b"too late")
    ]
    assert await get_plain(server, 1) == [("peer", OpCode.BYE_REQUEST, s, Status.SUCCESS, b"")]
    server.post(message(OpCode.BYE_RESPONSE, s))
    assert await get_plain(client, 2) == [
        ("peer", OpCode.BYE_RESPONSE, c, Status.SUCCESS, b""),
        told(Status.CHANNEL_CLOSED, c),
    ]
    assert await get_plain(server, 1) == [told(Status.CHANNEL_CLOSED, s)]


async def test_what_is_not_allowed_is_judged_after_what_the_thread_has_posted(
    engine: tofu.Engine, raw_server: RawServer
) -> None:
    """A signal after an unanswered Hello is not refused at once, but comes back."""
    group = engine.create_group()
    numbers = []

    def post() -> None:
        numbers.append(group.post(greeting(raw_server.address)).channel_number)
        group.post(message(OpCode.SIGNAL, numbers[0], b"too early"))

    blocking_the_loop(post)
    assert await get_plain(group, 1) == [
        ("engine", OpCode.SIGNAL, numbers[0], Status.NOT_ALLOWED, b"too early")
    ]
    with pytest.raises(tofu.NotAllowed, match="may not be sent in state"):
        blocking_the_loop(lambda: group.post(message(OpCode.SIGNAL, numbers[0])))
    await group.aclose()


async def test_a_received_message_sent_on_by_a_thread_takes_its_permit_along(
    ends: Ends, engine: tofu.Engine
) -> None:
    client, server, c, _s, _, _ = ends
    client.post(message(OpCode.SIGNAL, c, b"there and back"))
    held = await get(server)

    def forward() -> None:
        server.post(held)
        held.release()  # it has none to give back

    blocking_the_loop(forward)
    assert alive(engine) == 1
    with await get(client) as m:
        assert m.body == b"there and back"
    await until(lambda: alive(engine) == 0)


async def test_a_message_that_is_refused_keeps_its_permit(ends: Ends, engine: tofu.Engine) -> None:
    client, server, c, _s, _, _ = ends
    client.post(message(OpCode.SIGNAL, c))
    held = await get(server)
    held.channel_number = c  # of another group

    def forward() -> None:
        with pytest.raises(tofu.InvalidChannelGroup):
            server.post(held)

    blocking_the_loop(forward)
    forward()
    assert alive(engine) == 1
    held.release()
    assert alive(engine) == 0


# --- closing meanwhile -------------------------------------------------------------------------


async def posted_until_refused(
    client: tofu.ChannelGroup, number: int, close: Callable[[], object]
) -> list[bytes]:
    """Threads post until they are refused. Returns what was accepted, in each thread's order."""
    accepted: list[list[bytes]] = [[] for _ in range(THREADS)]
    enough = threading.Barrier(THREADS + 1)

    def post(thread: int) -> None:
        count = 0
        while True:
            body = b"%d %d" % (thread, count)
            try:
                client.post(message(OpCode.SIGNAL, number, body))
            except (
                tofu.ChannelClosed,
                tofu.PeerDisconnected,
                tofu.InvalidChannelNumber,
                tofu.ShutdownStarted,
            ):
                if count < MANY:
                    enough.abort()
                return
            accepted[thread].append(body)
            count += 1
            if count == MANY:
                enough.wait()
            elif count > MANY:
                time.sleep(0.001)  # gives the loop, which has to close, some turns

    with threads(post):
        await asyncio.to_thread(enough.wait)
        result = close()
        if asyncio.iscoroutine(result):
            await result
        else:
            await turns(1)
            while client._members.numbers.get(number) is not None:
                await turns(1)
    return list(chain.from_iterable(accepted))


def by_thread(bodies: list[bytes]) -> dict[bytes, list[int]]:
    """The numbers of each thread, in the order of their arrival."""
    found: dict[bytes, list[int]] = {}
    for body in bodies:
        thread, _, number = body.partition(b" ")
        found.setdefault(thread, []).append(int(number))
    return found


async def test_a_channel_that_closes_while_threads_post_loses_nothing(ends: Ends) -> None:
    """What was accepted arrives or comes back, and the channel's end is notified last."""
    client, server, c, s, _, _ = ends
    arrived: list[bytes] = []
    returned: list[bytes] = []

    async def serve() -> None:
        while True:
            with await get(server) as m:
                if m.op_code is OpCode.BYE_REQUEST:
                    server.post(message(OpCode.BYE_RESPONSE, s))
                elif m.status is Status.CHANNEL_CLOSED:
                    return
                elif m.status is not Status.POOL_EMPTY:
                    arrived.append(m.body)

    async def hear() -> None:
        while True:
            with await get(client) as m:
                if m.status is Status.CHANNEL_CLOSED:
                    return
                if m.op_code is not OpCode.BYE_RESPONSE:
                    assert m.origin is Origin.ENGINE
                    assert m.status in {Status.SEND_FAILED, Status.PEER_DISCONNECTED}
                    returned.append(m.body)

    serving, hearing = asyncio.create_task(serve()), asyncio.create_task(hear())
    accepted = await posted_until_refused(
        client, c, lambda: client.post(message(OpCode.BYE_REQUEST, c))
    )
    await asyncio.gather(serving, hearing)
    assert len(accepted) >= THREADS * MANY
    assert sorted(arrived + returned) == sorted(accepted)
    for numbers in by_thread(arrived + returned).values():
        assert numbers == list(range(len(numbers)))


@pytest.mark.parametrize("what", ["group", "engine"])
async def test_closing_while_threads_post_loses_nothing(
    engine: tofu.Engine, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was accepted is sent before the Byes."""
    monkeypatch.setattr(closing_module, "BYE_TIMEOUT", 30)
    server = engine.create_group()
    _, where = await listening(server, "tcp://127.0.0.1:0")
    async with tofu.Engine() as other:
        client = other.create_group()
        c, s = await opened(client, server, where)
        arrived: list[bytes] = []

        async def serve() -> None:
            while True:
                with await get(server) as m:
                    if m.op_code is OpCode.BYE_REQUEST:
                        server.post(message(OpCode.BYE_RESPONSE, s))
                        return
                    if m.status is not Status.POOL_EMPTY:
                        arrived.append(m.body)

        serving = asyncio.create_task(serve())
        accepted = await posted_until_refused(
            client, c, client.aclose if what == "group" else other.aclose
        )
        await serving
    assert len(accepted) >= THREADS * MANY
    assert sorted(arrived) == sorted(accepted)
    for numbers in by_thread(arrived).values():
        assert numbers == list(range(len(numbers)))
    await server.aclose()


async def test_a_closed_group_refuses_every_thread(engine: tofu.Engine) -> None:
    group = engine.create_group()
    await group.aclose()
    for call in (
        lambda: group.post(message(OpCode.SIGNAL, 1)),
        lambda: group.post(welcome("tcp://127.0.0.1:0")),
        group.update_receiver,
    ):
        with pytest.raises(tofu.ChannelClosed, match="the group was closed"):
            blocking_the_loop(call)
        with pytest.raises(tofu.ChannelClosed, match="the group was closed"):
            call()


def test_a_loop_that_is_gone_is_told() -> None:
    """The engine was not closed, and nothing can carry out calls any more."""

    async def main() -> tofu.ChannelGroup:
        engine = await tofu.Engine().__aenter__()
        return engine.create_group()

    group = asyncio.run(main())
    for call in (group.update_receiver, lambda: group.post(welcome("tcp://127.0.0.1:0"))):
        with pytest.raises(tofu.ShutdownStarted, match="loop was closed"):
            blocking_the_loop(call)
    assert not len(group._members.numbers)


# --- waking the receiver -----------------------------------------------------------------------


async def test_a_wake_up_is_a_notification(group: tofu.ChannelGroup) -> None:
    receiving = asyncio.create_task(get(group))
    await turns(2)
    group.update_receiver()
    woken = await receiving
    assert (woken.origin, woken.op_code) == (Origin.ENGINE, OpCode.SIGNAL)
    assert (woken.status, woken.channel_number) == (Status.RECEIVER_UPDATE, 0)
    await nothing_more(group)


async def test_a_message_of_one_s_own_is_received_as_it_is(group: tofu.ChannelGroup) -> None:
    own = message(OpCode.RESPONSE, 7, b"to myself", {"a": "b"}, 5)
    own.status = Status.PROCESSING_FAILED
    group.update_receiver(own)
    own.body = b"changed since"
    got = await get(group)
    assert got is not own
    assert (got.op_code, got.body, got.headers["a"], got.message_id) == (
        OpCode.RESPONSE,
        b"to myself",
        "b",
        5,
    )
    assert (got.origin, got.status, got.channel_number) == (
        Origin.APPLICATION,
        Status.PROCESSING_FAILED,
        7,
    )


async def test_updates_come_in_order_with_what_is_here(ends: Ends) -> None:
    client, server, _c, s, _, _ = ends
    server.post(message(OpCode.SIGNAL, s, b"first"))
    await until(lambda: client._posting.mailbox.items)
    client.update_receiver(message(OpCode.SIGNAL, 0, b"second"))
    blocking_the_loop(lambda: client.update_receiver(message(OpCode.SIGNAL, 0, b"third")))
    assert [entry[4] for entry in await get_plain(client, 3)] == [b"first", b"second", b"third"]


async def test_every_thread_can_wake_the_receiver(group: tofu.ChannelGroup) -> None:
    def update(thread: int) -> None:
        for number in range(MANY):
            group.update_receiver(message(OpCode.SIGNAL, thread, b"%d" % number))

    with threads(update):
        seen: dict[int, list[int]] = {}
        for _ in range(THREADS * MANY):
            m = await get(group)
            seen.setdefault(m.channel_number, []).append(int(m.body))
    assert seen == {thread: list(range(MANY)) for thread in range(THREADS)}


async def test_updates_left_when_a_group_closes_give_their_permits_back(
    ends: Ends, engine: tofu.Engine
) -> None:
    client, server, c, _s, _, _ = ends
    other = engine.create_group()
    client.post(message(OpCode.SIGNAL, c))
    other.update_receiver(await get(server))
    client.post(message(OpCode.SIGNAL, c))
    held = [await get(server)]
    blocking_the_loop(lambda: other.update_receiver(held.pop()))
    assert alive(engine) == 2
    await other.aclose()
    assert alive(engine) == 0


# --- messages of the pool ----------------------------------------------------------------------


async def test_get_makes_messages_without_end(engine: tofu.Engine) -> None:
    made = [engine.get() for _ in range(POOL + 1)]
    assert all((m.op_code, m.body, m.headers) == (OpCode.REQUEST, b"", {}) for m in made)
    assert engine.get(tofu.Allocation.ALWAYS, OpCode.SIGNAL).op_code is OpCode.SIGNAL
    assert engine.statistics().pool_free == POOL


async def test_the_pool_gives_what_it_has(engine: tofu.Engine) -> None:
    held = [engine.get(tofu.Allocation.POOL_ONLY) for _ in range(POOL)]
    assert engine.statistics().pool_free == 0
    assert engine.get(tofu.Allocation.POOL_ONLY) is None
    engine.put(held[0])
    engine.put(held[0])  # once is enough
    engine.put(None)
    engine.put(tofu.Message(OpCode.SIGNAL))
    assert engine.statistics().pool_free == 1
    held[1].release()
    del held[2]
    assert engine.statistics().pool_free == 3
    again = engine.get(tofu.Allocation.POOL_ONLY, OpCode.SIGNAL)
    assert again is not None
    assert again.op_code is OpCode.SIGNAL
    assert engine.statistics().pool_free == 2


async def test_an_op_code_that_is_none_takes_no_permit(engine: tofu.Engine) -> None:
    with pytest.raises(tofu.InvalidOpCode):
        engine.get(tofu.Allocation.POOL_ONLY, 13)  # type: ignore[call-overload]
    assert engine.statistics().pool_free == POOL


@pytest.mark.parametrize("opening", [False, True])
@pytest.mark.parametrize("where_from", ["loop", "thread"])
async def test_a_message_of_the_pool_holds_its_permit_until_it_is_sent(
    ends: Ends, engine: tofu.Engine, where_from: str, opening: bool
) -> None:
    client, server, c, _s, _, where = ends
    op_code = OpCode.HELLO_REQUEST if opening else OpCode.SIGNAL
    mine = engine.get(tofu.Allocation.POOL_ONLY, op_code)
    assert mine is not None
    if opening:
        mine.headers = tofu.TextHeaders({"~connect_to": where.to_header()})
    else:
        mine.channel_number = c
    if where_from == "loop":
        client.post(mine)
    else:
        blocking_the_loop(lambda: client.post(mine))
    if opening or where_from == "thread":  # else it may be sent already
        assert engine.statistics().pool_free == POOL - 1
    with await get(server) as heard:
        number = heard.channel_number
    await until(lambda: engine.statistics().pool_free == POOL)
    if opening:
        server.post(message(OpCode.BYE_SIGNAL, number))
        assert await get_plain(server, 1) == [told(Status.CHANNEL_CLOSED, number)]
        assert {entry[3] for entry in await get_plain(client, 3)} == {
            Status.CONNECT_FAILED,
            Status.PEER_DISCONNECTED,
            Status.CHANNEL_CLOSED,
        }


async def test_a_message_of_the_pool_is_never_got_past_a_channel_that_waits(
    ends: Ends, engine: tofu.Engine
) -> None:
    client, server, c, s, _, _ = ends
    client.post(message(OpCode.SIGNAL, c, b"has the reserve"))
    first = await get(server)
    held = [engine.get(tofu.Allocation.POOL_ONLY) for _ in range(POOL)]
    client.post(message(OpCode.SIGNAL, c, b"waits"))
    await until(lambda: engine.statistics().waiting == 1)
    held.pop()
    assert engine.get(tofu.Allocation.POOL_ONLY) is None  # free, but reserved
    heard = await get_plain(server, 2)
    assert heard == [
        told(Status.POOL_EMPTY, 0),
        ("peer", OpCode.SIGNAL, s, Status.SUCCESS, b"waits"),
    ]
    first.release()
    assert engine.get(tofu.Allocation.POOL_ONLY) is not None


async def test_every_thread_gets_and_puts_while_channels_receive(
    ends: Ends, engine: tofu.Engine
) -> None:
    client, server, c, _s, _, _ = ends
    got = [0] * 3
    done = threading.Event()

    def get_and_put(thread: int) -> None:
        while not done.is_set():
            mine = engine.get(tofu.Allocation.POOL_ONLY)
            got[thread] += mine is not None
            engine.put(mine)

    with threads(get_and_put, 3):
        try:
            for number in range(50):
                client.post(message(OpCode.SIGNAL, c, b"%d" % number))
            bodies: list[bytes] = []
            while len(bodies) < 50:
                with await get(server) as m:
                    if m.status is not Status.POOL_EMPTY:
                        bodies.append(m.body)
        finally:
            done.set()
    assert bodies == [b"%d" % number for number in range(50)]
    assert sum(got)
    assert engine.statistics().pool_free == POOL


async def test_eight_threads_release_what_channels_receive_and_none_waits_for_ever(
    group: tofu.ChannelGroup, engine: tofu.Engine, both_ends: Connect
) -> None:
    """Each message by two threads at once. A lost permit or wake-up fails the test."""
    queues: list[SimpleQueue[tofu.Message | None]] = [SimpleQueue() for _ in range(THREADS)]

    def release(thread: int) -> None:
        while (received := queues[thread].get()) is not None:
            received.release()

    async def receive(channel: tofu.Channel, number: int) -> None:
        for expected in range(MANY):
            received = await channel.receive()
            assert received.body == b"%d" % expected
            for thread in (number, number + expected):
                queues[thread % THREADS].put(received)
            del received

    async def send(channel: tofu.Channel) -> None:
        for number in range(MANY):
            await channel.signal(b"%d" % number)

    async with AsyncExitStack() as stack:
        pairs = [await stack.enter_async_context(both_ends(group)) for _ in range(4)]
        with threads(release):
            try:
                await asyncio.gather(
                    *(send(pair.client) for pair in pairs),
                    *(receive(pair.server, number) for number, pair in enumerate(pairs)),
                )
            finally:
                for own in queues:
                    own.put(None)
        await until(lambda: alive(engine) == 0)
    assert engine.statistics().pool_free == POOL


async def test_frames_of_other_channels_are_not_held_up_by_threads(
    ends: Ends, raw_server: RawServer
) -> None:
    """A peer's messages and a thread's posts take turns on one group."""
    client, _, _c, _, _, _ = ends
    number = client.post(greeting(raw_server.address)).channel_number
    with await raw_server.accept() as peer:
        asked = await peer.message()
        await peer.send(frame(OpCode.HELLO_RESPONSE, message_id=asked.message_id))
        assert (await get(client)).op_code is OpCode.HELLO_RESPONSE
        await asyncio.to_thread(client.post, message(OpCode.SIGNAL, number, b"out"))
        assert (await peer.message()).body == b"out"
        await asyncio.to_thread(client.post, message(OpCode.BYE_SIGNAL, number))
        assert await get_plain(client, 1) == [told(Status.CHANNEL_CLOSED, number)]
