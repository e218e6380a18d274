"""Two decoders, one compiled and one in Python, that are given the same and must do the same."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from tests.core.reference import Holder, PlainDecoder, plain_pool
from tofu_aio.messaging.delivery.joining import Join
from tofu_aio.protocol.account import Account
from tofu_aio.protocol.decoder import Decoder
from tofu_aio.protocol.exemptions import Exemptions
from tofu_aio.protocol.lifecycle import State
from tofu_aio.protocol.message import Message
from tofu_aio.protocol.pool import Pool

STATES: Final = tuple(State)

CHUNKS: Final[tuple[Callable[[bytes], Any], ...]] = (
    bytes,
    memoryview,
    lambda data: memoryview(bytearray(data)),
    lambda data: memoryview(b"~" + data + b"~")[1:-1],
)
"""What a chunk may be: the last is a part of a longer buffer."""


@dataclass
class Setting:
    """How the decoders are made."""

    pool: int | None = 4
    unit: int = 40
    share: float = 1.0
    state: State = State.OPEN
    number: int | None = 7
    exempt: bool = True
    shared: bool = False
    heartbeats: bool | None = None
    withdrawals: bool = False


Operation = tuple[Any, ...]
"""The name of one of a side's methods, and its arguments."""


@dataclass
class JoinedSoFar:
    """What has come of a request in parts, as far as ``Exemptions`` asks."""

    length: int


class Reader:
    """Waits for permits, in name only."""

    needs = 1

    def __init__(self, account: Account) -> None:
        self.account = account


@dataclass
class Side(Holder):
    """One of the two, with all that belongs to it."""

    setting: Setting
    compiled: bool
    calls: int = 0
    messages: list[Message] = field(default_factory=list)
    others: list[Any] = field(default_factory=list)

    def __post_init__(self) -> None:
        setting = self.setting
        size = setting.pool if setting.pool is not None else 4
        make: Any = Pool if self.compiled else plain_pool
        self.pool = make(size, self._called, unit=setting.unit, share=setting.share)
        kind = Decoder if self.compiled else PlainDecoder
        pool = self.pool if setting.pool is not None else None
        self.decoder = kind(pool, setting.state, setting.number)
        self.decoder.heartbeats = setting.heartbeats
        self.account = self.decoder.account
        self.neighbour = kind(self.pool, State.OPEN, 8)
        self.awaited: set[int] = set()
        self.exchanges: set[int] = set()
        self.posted: set[int] = set()
        self.parts: dict[int, Join | None] = {}
        if setting.exempt:
            self.decoder.exempt = Exemptions(
                awaited=self.awaited,
                exchanges=self.exchanges,
                posted=self.posted,
                parts=self.parts,
                shared=setting.shared,
                withdrawals=setting.withdrawals,
            )

    def _called(self) -> None:
        self.calls += 1

    # --- what happens to it -------------------------------------------------------------------

    def feed(self, data: bytes, kind: int, portion: int | None) -> object:
        """Give it a chunk."""
        chunk = CHUNKS[kind % len(CHUNKS)](data)
        arguments = () if portion is None else (portion,)
        return self._take(self.decoder.feed(chunk, *arguments))

    def more(self, portion: int) -> object:
        """The next portion."""
        return self._take(self.decoder.more(portion))

    def resume(self, portion: int, granted: int) -> object:
        """Go on after permits were short; at most as many are granted as are free."""
        return self._take(self.decoder.resume(portion, min(granted, len(self.pool.free))))

    def lend(self, most: int) -> object:
        """A task waits."""
        if self.account is not None:
            self.account.lend(most)
        return None

    def take(self) -> object:
        """Somebody else takes a permit."""
        if self.pool.acquire():
            self.others.append(self.pool)
            return True
        return False

    def give(self) -> object:
        """Somebody else gives a permit back, or the neighbour a message."""
        if self.others:
            self.others.pop().release()
        return len(self.others)

    def feed_neighbour(self, data: bytes) -> object:
        """Another channel of the same pool takes what it can."""
        batch = self.neighbour.feed(data)
        self.others += batch
        return seen(batch)

    def wait(self) -> object:
        """Another channel begins to wait for permits, or this one ends its wait."""
        account = self.neighbour.account
        assert account is not None
        reader: Any = Reader(account)
        if self.pool.waiters:
            self.pool.waiters.clear()
            self.pool.suspended.clear()
        else:
            self.pool.waiters.append(reader)
            self.pool.suspended[account] = reader
        return None

    def suspend(self) -> object:
        """Be told of everything that comes back, or no more."""
        if self.account is None:
            return None
        reader: Any = Reader(self.account)
        if self.pool.suspended.pop(self.account, None) is None:
            self.pool.suspended[self.account] = reader
        return None

    def ask(self, kind: int, message_id: int) -> object:
        """Make or end a request, so that its response is expected or not."""
        ids = (self.awaited, self.exchanges, self.posted)[kind % 3]
        ids.symmetric_difference_update({message_id})
        return None

    def part(self, message_id: int, length: int) -> object:
        """Begin or end a request in parts; one of length 0 is dropped."""
        if message_id in self.parts:
            del self.parts[message_id]
        else:
            so_far: Any = JoinedSoFar(length) if length else None
            self.parts[message_id] = so_far
        return None

    def sort(self) -> object:
        """What the owner does after a special message."""
        self.decoder.special = False
        if self.decoder.exempt is not None and self.messages:
            self.decoder.exempt.drain_noted |= not self.messages[-1].message_id
        return None

    def strays(self) -> object:
        """A caller has given up."""
        if self.decoder.exempt is not None:
            self.decoder.exempt.strays = True
        return None

    def answer(self, state: int, awaited_id: int) -> object:
        """This side says Hello or Bye."""
        self.decoder.state = STATES[state % len(STATES)]
        self.decoder.awaited_id = awaited_id
        return None

    def stop_counting(self) -> object:
        """Take no more permits."""
        self.decoder.stop_counting()
        return None

    def close(self) -> object:
        """Forget everything."""
        self.decoder.close()
        return None

    # --- what can be seen of it ---------------------------------------------------------------

    def _take(self, batch: list[Message]) -> object:
        self.messages += batch
        return seen(batch)

    def seen(self) -> dict[str, object]:
        """All that there is to see."""
        decoder, account, pool = self.decoder, self.account, self.pool
        arriving = decoder.arriving
        return {
            "state": decoder.state,
            "special": decoder.special,
            "violation": (type(decoder.violation), str(decoder.violation)),
            "ids": (decoder.asked_id, decoder.awaited_id),
            "heartbeats": decoder.heartbeats,
            "offset": decoder.offset,
            "needs": decoder.needs,
            "waiting": decoder.waiting[decoder._at :],
            "header": decoder._header,
            "ended": decoder._ended,
            "held": decoder.held,
            "arriving": arriving and (seen([arriving.message]), arriving.missing, arriving.nbytes),
            "promised": decoder.promised,
            "pending": (decoder.pending, decoder.early, decoder.starved),
            "none": decoder.needs_none,
            "account": account
            and (list(account.taken), len(account.bundled), account.reserved, account.held),
            "pool": (len(pool.free), len(pool.reserves), len(pool.to_lend), len(pool.restored)),
            "calls": self.calls,
            "messages": seen(self.messages),
        }


def seen(messages: Iterable[Message]) -> list[object]:
    """All that a message is, and the kind of permit that it holds."""
    return [
        (
            message._proto,
            message.status,
            message.channel_number,
            message.message_id,
            message.headers.pairs,
            type(message.body),
            message.body,
            message._permit and message._permit.worth,
            message._permit and type(message._permit).__name__.removeprefix("Plain"),
        )
        for message in messages
    ]


def compare(setting: Setting, operations: Sequence[Operation]) -> None:
    """Do the same to both, and find both the same after each step."""
    sides = Side(setting, compiled=True), Side(setting, compiled=False)
    done: list[Operation] = []
    for name, *arguments in operations:
        done.append((name, *arguments))
        results = [_result_of(getattr(side, name), arguments) for side in sides]
        assert results[0] == results[1], f"another result after {done}"
        compiled, plain = (side.seen() for side in sides)
        assert compiled == plain, f"another state after {done}"
    _end(sides)


def _result_of(method: Callable[..., object], arguments: Sequence[Any]) -> object:
    """What it returns or raises."""
    try:
        return method(*arguments)
    except Exception as error:
        return type(error), str(error)


def _end(sides: Iterable[Side]) -> None:
    """Everything comes back, on both sides."""
    for side in sides:
        side.decoder.close()
        side.neighbour.close()
        side.messages.clear()
        for other in side.others:
            other.release()
        side.others.clear()
        pool = side.pool
        assert len(pool.free) == pool.size, f"permits left behind: {side}"
        assert not len(pool.reserves), f"reserves left behind: {side}"
