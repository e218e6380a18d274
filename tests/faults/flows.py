"""What two peers do until their connection is cut, and what each of them must have learned.

A flow is a line in ``STREAMS`` or ``MESSAGES``. For each side it says how the side's story ends
when 0, 1, 2... whole messages reached it. Where both the last one and the loss may be noticed
first, there is one ending for either, separated by ``|``.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple, TypeAlias

import tofu_aio as tofu
from tests.faults.cutting import BACK, THERE
from tofu_aio import OpCode, Origin

Story: TypeAlias = list[str]
"""What happened to a side, a word each."""


class Waits(NamedTuple):
    """What one way carries after so many messages, the other way's so many come before."""

    way: int
    after: int
    others: int


class Flow(NamedTuple):
    """A conversation: what each side does, and how it may end.

    Attributes:
        name: for people.
        client: what it does once it is connected.
        server: what it does once it has a channel.
        client_ends: its story, by the number of whole messages that reached it.
        server_ends: likewise.
        crossing: both sides speak at once, so each way is cut by itself, but for what waits.
        opening: how the server gets its channel from its listener.
        heartbeats: the client asks for them. They are no messages.
    """

    name: str
    client: Script
    server: Script
    client_ends: tuple[str, ...]
    server_ends: tuple[str, ...]
    crossing: tuple[Waits, ...] = ()
    opening: Callable[[tofu.Listener], Awaitable[tofu.Channel]] = tofu.Listener.accept
    heartbeats: bool = False


# --- streams -----------------------------------------------------------------------------------

Script: TypeAlias = Callable[[tofu.Channel, Story, asyncio.Barrier], Awaitable[object]]


async def listen_only(channel: tofu.Channel, story: Story, _: object) -> None:
    while True:
        with await channel.receive() as message:
            story.append(message.body.decode())


async def ask(channel: tofu.Channel, story: Story, _: object) -> None:
    with await channel.request(b"question", {"Job": "7"}) as response:
        story.append(response.body.decode())
    await listen_only(channel, story, _)


async def answer(channel: tofu.Channel, story: Story, _: object) -> None:
    with await channel.receive() as request:
        story.append(request.body.decode())
        await channel.reply(request, b"answer", {"Job": "7"})
    await listen_only(channel, story, _)


async def ask_in_parts(channel: tofu.Channel, story: Story, _: object) -> None:
    number = 0
    for text in (b"a", b"b", b"c"):
        part = tofu.Message(OpCode.REQUEST, text, message_id=number, more=text != b"c")
        number = channel.post(part).message_id
    await listen_only(channel, story, _)


async def answer_in_parts(channel: tofu.Channel, story: Story, _: object) -> None:
    more = True
    while more:
        with await channel.receive() as request:
            story.append(request.body.decode())
            more = request.more
    for text in (b"x", b"y", b"z"):
        await channel.reply(request, text, more=text != b"z")
    await listen_only(channel, story, _)


async def say_and_close(channel: tofu.Channel, story: Story, _: object) -> None:
    await channel.signal(b"last")
    await channel.aclose()


async def half_close(channel: tofu.Channel, story: Story, _: object) -> None:
    await channel.signal(b"first")
    await channel.send_eof()
    await listen_only(channel, story, _)


async def finish_after_the_end(channel: tofu.Channel, story: Story, _: object) -> None:
    try:
        await listen_only(channel, story, _)
    except tofu.ChannelEnded:
        story.append("end")
    await channel.signal(b"second")
    await channel.aclose()


async def close_together(channel: tofu.Channel, story: Story, both: asyncio.Barrier) -> None:
    await both.wait()
    await channel.aclose()


async def half_close_together(channel: tofu.Channel, story: Story, both: asyncio.Barrier) -> None:
    await both.wait()
    await channel.send_eof()
    await listen_only(channel, story, both)


async def exchange_in_turn(channel: tofu.Channel, story: Story, _: object) -> None:
    async with channel.stream(headers={"Job": "7"}) as exchange:
        for text in (b"a", b"b"):
            await exchange.send(text)
            with await exchange.receive() as part:
                story.append(part.body.decode())
        await exchange.finish(b"c")
        await listen_to(exchange, story)
    await listen_only(channel, story, _)


async def echo_each_part(channel: tofu.Channel, story: Story, _: object) -> None:
    async with channel.stream(await channel.receive()) as exchange:
        async for part in exchange:
            with part:
                story.append(part.body.decode())
                await exchange.send(part.body.upper())
        await exchange.finish(b".")
    await listen_only(channel, story, _)


async def listen_to(exchange: tofu.Exchange, story: Story) -> None:
    async for part in exchange:
        with part:
            story.append(part.body.decode())


async def say_all_then_listen(exchange: tofu.Exchange, texts: bytes, story: Story) -> None:
    with contextlib.suppress(tofu.PeerDisconnected):  # what has come is heard all the same
        for text in texts[:-1]:
            await exchange.send(bytes([text]))
        await exchange.finish(texts[-1:])
    await listen_to(exchange, story)


async def exchange_at_once(channel: tofu.Channel, story: Story, _: object) -> None:
    async with channel.stream() as exchange:
        await say_all_then_listen(exchange, b"abc", story)
    await listen_only(channel, story, _)


async def exchange_back_at_once(channel: tofu.Channel, story: Story, _: object) -> None:
    async with channel.stream(await channel.receive()) as exchange:
        await say_all_then_listen(exchange, b"xyz", story)
    await listen_only(channel, story, _)


async def reject(channel: tofu.Channel, story: Story, _: object) -> None:
    await channel.reject("not today")


# A story is what was heard, then what was raised, and for what reason; after the slash what the
# channel says its end was. Nothing at all: the channel was never seen.
_LOST: Final = "hello PeerDisconnected/PeerDisconnected"
_NEVER_OPEN: Final = "ConnectFailed<PeerDisconnected"

_CROSSED_BYES: Final = (Waits(THERE, 2, 2), Waits(BACK, 2, 2))
"""A side's answer to the other's Bye comes after that."""


def _heard(*words: str) -> tuple[str, ...]:
    """The endings of a side that hears these words, one a message, and at last a loss."""
    return (
        "",
        _LOST,
        *(
            f"hello {' '.join(words[: count + 1])} PeerDisconnected/PeerDisconnected"
            for count in range(len(words))
        ),
    )


STREAMS: Final = [
    Flow(
        "handshake",
        listen_only,
        listen_only,
        (_NEVER_OPEN, f"{_LOST}|{_NEVER_OPEN}"),
        ("", f"{_LOST}|"),
    ),
    Flow(
        "rejection",
        listen_only,
        reject,
        (_NEVER_OPEN, "ConnectFailed<NotAllowed: not today"),
        ("", "hello/ChannelClosed|hello PeerDisconnected/PeerDisconnected|"),
        opening=tofu.Listener.receive_hello,
    ),
    Flow(
        "request",
        ask,
        answer,
        ("", _LOST, "hello answer PeerDisconnected/PeerDisconnected"),
        ("", _LOST, "hello question PeerDisconnected/PeerDisconnected"),
    ),
    Flow(
        "parts",
        ask_in_parts,
        answer_in_parts,
        (
            "",
            _LOST,
            "hello x PeerDisconnected/PeerDisconnected",
            "hello x y PeerDisconnected/PeerDisconnected",
            "hello x y z PeerDisconnected/PeerDisconnected",
        ),
        (
            "",
            _LOST,
            "hello a PeerDisconnected/PeerDisconnected",
            "hello a b PeerDisconnected/PeerDisconnected",
            "hello a b c PeerDisconnected/PeerDisconnected",
        ),
    ),
    Flow(
        "bye",
        say_and_close,
        listen_only,
        ("", "hello/PeerDisconnected", "hello/ChannelEnded"),
        (
            "",
            _LOST,
            "hello last PeerDisconnected/PeerDisconnected",
            "hello last ChannelEnded/ChannelEnded|hello last ChannelEnded/PeerDisconnected",
        ),
    ),
    Flow(
        "bye of the server",
        listen_only,
        say_and_close,
        (
            "",
            _LOST,
            "hello last PeerDisconnected/PeerDisconnected",
            "hello last ChannelEnded/ChannelEnded|hello last ChannelEnded/PeerDisconnected",
        ),
        ("", "hello/PeerDisconnected", "hello/ChannelEnded"),
    ),
    Flow(
        "half-close",
        half_close,
        finish_after_the_end,
        (
            "",
            _LOST,
            "hello second PeerDisconnected/PeerDisconnected",
            "hello second ChannelEnded/ChannelEnded",
        ),
        (
            "",
            _LOST,
            "hello first PeerDisconnected/PeerDisconnected",
            (
                "hello first end/ChannelEnded|hello first end/PeerDisconnected"
                "|hello first end PeerDisconnected/PeerDisconnected"
            ),
        ),
    ),
    Flow(
        "crossed byes",
        close_together,
        close_together,
        ("", "hello/PeerDisconnected", "hello/ChannelEnded", "hello/ChannelEnded"),
        ("", "hello/PeerDisconnected", "hello/ChannelEnded", "hello/ChannelEnded"),
        crossing=_CROSSED_BYES,
    ),
    Flow(
        "crossed half-closes",
        half_close_together,
        half_close_together,
        (
            "",
            _LOST,
            "hello ChannelEnded/ChannelEnded",
            "hello ChannelEnded/ChannelEnded",
        ),
        (
            "",
            _LOST,
            "hello ChannelEnded/ChannelEnded",
            "hello ChannelEnded/ChannelEnded",
        ),
        crossing=_CROSSED_BYES,
    ),
    Flow(
        "heartbeats",
        ask,
        answer,
        _heard("answer"),
        _heard("question"),
        heartbeats=True,
    ),
    Flow(
        "exchange in turn",
        exchange_in_turn,
        echo_each_part,
        _heard("A", "B", "C", "."),
        _heard("a", "b", "c"),
    ),
    Flow(
        "exchange at once",
        exchange_at_once,
        exchange_back_at_once,
        _heard("x", "y", "z"),
        _heard("a", "b", "c"),
        crossing=(Waits(BACK, 1, 2),),
    ),
    # Leaving an exchange takes back what nobody has received, so what is heard depends on what
    # arrives in one piece: tests/messaging/delivery/test_taken_back.py has it.
]

CROWDED: Final = [
    Flow("full", listen_only, listen_only, (_NEVER_OPEN,), ("", f"{_LOST}|")),
]
"""Flows with a listener that has no place for the client before the cut."""


# --- messages ----------------------------------------------------------------------------------


class Posted(NamedTuple):
    """The same at the altitude of messages: each side answers what it hears.

    Attributes:
        name, client_ends, server_ends, crossing: as in ``Flow``.
        client: what it posts when it hears a word.
        server: likewise.
    """

    name: str
    client: Answers
    server: Answers
    client_ends: tuple[str, ...]
    server_ends: tuple[str, ...]
    crossing: tuple[Waits, ...] = ()


class Say(NamedTuple):
    """A message to post; its number is that of what it answers, where there is one."""

    op_code: OpCode
    text: str = ""
    more: bool = False
    headers: dict[str, str] | None = None


Answers: TypeAlias = dict[str, list[Say]]


def word_for(message: tofu.Message) -> str:
    """A message of the mailbox in a word."""
    name = message.body.decode() or message.op_code.name.lower()
    if message.origin is Origin.APPLICATION:
        return name
    status = message.status.name.lower()
    return status if message.op_code is OpCode.SIGNAL and not message.body else f"{name}={status}"


_ACCEPT: Final = {"hello_request": [Say(OpCode.HELLO_RESPONSE)]}
_UNHEARD: Final = "peer_disconnected channel_closed"
UNSEEN: Final = "channel_closed"
"""Who has said no Hello is no channel: the mailbox hears of nothing but the listener's end."""
_BACK: Final = f"hello_request=connect_failed {_UNHEARD}"
_DROPPED: Final = f"hello_response {_UNHEARD}"
_SILENT: Final = f"hello_request {_UNHEARD}"
_BYE: Final = Say(OpCode.BYE_REQUEST)

MESSAGES: Final = [
    Posted("handshake", {}, _ACCEPT, (_BACK, _DROPPED), (UNSEEN, _SILENT)),
    Posted(
        "request",
        {"hello_response": [Say(OpCode.REQUEST, "question", headers={"Job": "7"})]},
        {**_ACCEPT, "question": [Say(OpCode.RESPONSE, "answer", headers={"Job": "7"})]},
        ("", _DROPPED, f"hello_response answer {_UNHEARD}"),
        ("", _SILENT, f"hello_request question {_UNHEARD}"),
    ),
    Posted(
        "parts",
        {
            "hello_response": [
                Say(OpCode.REQUEST, "a", more=True),
                Say(OpCode.REQUEST, "b", more=True),
                Say(OpCode.REQUEST, "c"),
            ]
        },
        {
            **_ACCEPT,
            "c": [
                Say(OpCode.RESPONSE, "x", more=True),
                Say(OpCode.RESPONSE, "y", more=True),
                Say(OpCode.RESPONSE, "z"),
            ],
        },
        (
            "",
            _DROPPED,
            f"hello_response x {_UNHEARD}",
            f"hello_response x y {_UNHEARD}",
            f"hello_response x y z {_UNHEARD}",
        ),
        (
            "",
            _SILENT,
            f"hello_request a {_UNHEARD}",
            f"hello_request a b {_UNHEARD}",
            f"hello_request a b c {_UNHEARD}",
        ),
    ),
    Posted(
        "bye",
        {"hello_response": [Say(OpCode.SIGNAL, "last"), _BYE]},
        {**_ACCEPT, "bye_request": [Say(OpCode.BYE_RESPONSE)]},
        ("", _DROPPED, "hello_response bye_response channel_closed"),
        (
            "",
            _SILENT,
            f"hello_request last {_UNHEARD}",
            (
                "hello_request last bye_request channel_closed"
                f"|hello_request last bye_request {_UNHEARD}"
            ),
        ),
    ),
    Posted(
        "bye of the server",
        {"hello_response": [Say(OpCode.SIGNAL, "go")], "bye_request": [Say(OpCode.BYE_RESPONSE)]},
        {**_ACCEPT, "go": [Say(OpCode.SIGNAL, "last"), _BYE]},
        (
            "",
            _DROPPED,
            f"hello_response last {_UNHEARD}",
            (
                "hello_response last bye_request channel_closed"
                f"|hello_response last bye_request {_UNHEARD}"
            ),
        ),
        (
            "",
            _SILENT,
            f"hello_request go {_UNHEARD}",
            "hello_request go bye_response channel_closed",
        ),
    ),
]
"""Crossing Byes are among the streams': at this altitude what crosses depends on the mailbox."""
