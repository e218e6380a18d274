"""Every cut of every flow: the connection ends after each byte, each way, in every manner.

Whatever was cut where, both sides come to their end, each learns exactly why, and neither has a
permit, a channel number, a task, a descriptor or a timer left.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from functools import partial

import pytest

from tests.conftest import HAS_UDS
from tests.faults.conversations import messages, stream
from tests.faults.counting import COUNTS, FULL
from tests.faults.cutting import BACK, HOWS, THERE, Cut, Relay, boundaries
from tests.faults.flows import MESSAGES, STREAMS, Flow, Posted
from tofu_aio.messaging import connection as connection_module

AT_ONCE = 8
"""Silences that are waited for together; not so many that deadlines pass while others work."""
QUIET = {"handshake", "bye"}
KINDS = list(HOWS) if HAS_UDS else ["tcp"]


def named(flow: Flow | Posted) -> str:
    return flow.name


def in_turn(recorded: Relay) -> Iterator[tuple[int, int]]:
    """After each byte, in the order in which they passed when nothing was cut."""
    there, back = 0, 0
    yield there, back
    for way, size in recorded.order:
        for _ in range(size):
            there, back = (there + 1, back) if way == THERE else (there, back + 1)
            yield there, back


def crossing(recorded: Relay) -> Iterator[tuple[int, int]]:
    """After each byte of either way, with each number of whole frames the other way.

    A side's answer to the other's Bye passes only after that Bye.
    """
    there, back = (boundaries(passed) for passed in recorded.passed)
    grid = {(n, m) for n in range(there[1], there[-1] + 1) for m in back[1:]}
    grid |= {(n, m) for n in there[1:] for m in range(back[1], back[-1] + 1)}
    for n, m in sorted(grid):
        if (n <= there[2] or m >= back[2]) and (m <= back[2] or n >= there[2]):
            yield n, m


def near_an_end(recorded: Relay, way: int, limit: int) -> bool:
    """Whether a frame ends there, or would with one byte more."""
    ends = boundaries(recorded.passed[way])
    return limit in ends or limit + 1 in ends


def places(flow: Flow | Posted, recorded: Relay) -> list[tuple[int, int]]:
    """Where to cut a flow; what passes before it begins is the handshake's."""
    if flow.crossing:
        found = list(crossing(recorded))
    else:
        found = list(in_turn(recorded))
        if flow.name != "handshake":
            hello, answer = (boundaries(passed)[1] for passed in recorded.passed)
            found = found[hello + answer + 1 :]
    if FULL:
        return found
    return [
        (there, back)
        for there, back in found
        if near_an_end(recorded, THERE, there) and near_an_end(recorded, BACK, back)
    ]


def heard(recorded: Relay, way: int, limit: int) -> int:
    """How many whole frames are in so many bytes."""
    return sum(end <= limit for end in boundaries(recorded.passed[way])[1:])


Run = Callable[[Cut], Awaitable[tuple[str, str, Relay]]]


async def surprises(run: Run, flow: Flow | Posted, recorded: Relay, cut: Cut) -> list[str]:
    """Cut once; what came of it, if that was none of what may come of it."""
    *stories, relay = await run(cut)
    assert [len(passed) for passed in relay.passed] == [cut.there, cut.back]
    COUNTS["cuts"] += 1
    expected = [
        flow.client_ends[heard(recorded, BACK, cut.back)],
        flow.server_ends[heard(recorded, THERE, cut.there)],
    ]
    if cut.how == "silence":
        expected = [in_silence(endings) for endings in expected]
    if all(story in endings.split("|") for story, endings in zip(stories, expected, strict=True)):
        return []
    return [f"{cut}: {stories} instead of {expected}"]


def in_silence(endings: str) -> str:
    """Nothing tells that the peer is lost: a side that closes learns that it was in vain."""
    return endings.replace(" PeerDisconnected/", "/").replace("PeerDisconnected", "ChannelClosed")


EACH_HOW = pytest.mark.parametrize(
    ("kind", "how"), [(kind, how) for kind in KINDS for how in HOWS[kind]]
)


@EACH_HOW
@pytest.mark.parametrize("flow", STREAMS, ids=named)
async def test_a_stream_cut_anywhere_ends_on_both_sides(flow: Flow, kind: str, how: str) -> None:
    *_, recorded = await stream(flow, kind)
    wrong = []
    for place in places(flow, recorded):
        run = partial(stream, flow, kind)
        wrong += await surprises(run, flow, recorded, Cut(how, *place))
    assert not wrong, "\n".join(wrong)


@EACH_HOW
@pytest.mark.parametrize("flow", MESSAGES, ids=named)
async def test_messages_cut_anywhere_end_on_both_sides(flow: Posted, kind: str, how: str) -> None:
    *_, recorded = await messages(flow, kind)
    wrong = []
    for place in places(flow, recorded):
        run = partial(messages, flow, kind)
        wrong += await surprises(run, flow, recorded, Cut(how, *place))
    assert not wrong, "\n".join(wrong)


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    "flow", STREAMS if FULL else [flow for flow in STREAMS if flow.name in QUIET], ids=named
)
async def test_a_silence_that_begins_anywhere_is_ended_by_deadlines(
    flow: Flow, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing passes any more, without end: opening gives up, and so does closing."""
    monkeypatch.setattr(connection_module, "BYE_TIMEOUT", 1.0)
    *_, recorded = await stream(flow, "tcp")
    wrong = []
    everywhere = places(flow, recorded)
    for start in range(0, len(everywhere), AT_ONCE):
        batch = everywhere[start : start + AT_ONCE]
        cuts = [Cut("silence", *place) for place in batch]
        run = partial(stream, flow, "tcp")
        results = await asyncio.gather(*(surprises(run, flow, recorded, cut) for cut in cuts))
        wrong += [text for result in results for text in result]
    assert not wrong, "\n".join(wrong)
