"""Every cut of every flow: the connection ends after each byte, each way, in every manner.

Whatever was cut where, both sides come to their end, each learns exactly why, and neither has a
permit, a channel number, a task, a descriptor or a timer left.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from functools import partial
from typing import Any

import pytest

from tests.conftest import HAS_UDS
from tests.faults.conversations import crowded, messages, stream
from tests.faults.counting import COUNTS, FULL
from tests.faults.cutting import BACK, HOWS, THERE, Cut, Relay
from tests.faults.flows import CROWDED, MESSAGES, STREAMS, Flow, Posted, Waits
from tofu_aio.messaging.connection import closing as closing_module

AT_ONCE = 24
"""Silences that are waited for together; not so many that deadlines pass while others work."""
QUIET = {"handshake", "bye", "heartbeats"}
OPENINGS = {"handshake", "rejection", "full"}
"""Flows that are about what comes before a channel is open."""
KINDS = ["tcp", "uds"] if HAS_UDS else ["tcp"]


def named(flow: Flow | Posted | str) -> str:
    return flow if isinstance(flow, str) else flow.name


def in_turn(recorded: Relay) -> Iterator[tuple[int, int]]:
    """After each byte, in the order in which they passed when nothing was cut."""
    there, back = 0, 0
    yield there, back
    for way, size in recorded.order:
        for _ in range(size):
            there, back = (there + 1, back) if way == THERE else (there, back + 1)
            yield there, back


def crossing(recorded: Relay, waits: tuple[Waits, ...]) -> Iterator[tuple[int, int]]:
    """After each byte of either way, with each number of whole messages the other way."""
    ends = there, back = recorded.ends(THERE), recorded.ends(BACK)
    grid = {(n, m) for n in range(there[1], there[-1] + 1) for m in back[1:]}
    grid |= {(n, m) for n in there[1:] for m in range(back[1], back[-1] + 1)}
    for place in sorted(grid):
        if all(
            place[way] <= ends[way][after] or place[1 - way] >= ends[1 - way][others]
            for way, after, others in waits
        ):
            yield place


def places(flow: Flow | Posted, recorded: Relay) -> list[tuple[int, int]]:
    """Where to cut a flow; what passes before it begins is the handshake's."""
    if flow.crossing:
        found = list(crossing(recorded, flow.crossing))
    else:
        found = list(in_turn(recorded))
        if flow.name not in OPENINGS:
            hello, answer = recorded.ends(THERE)[1], recorded.ends(BACK)[1]
            found = [(n, m) for n, m in found if n >= hello and m >= answer][1:]
    if FULL:
        return found
    edges = [
        {edge - before for edge in recorded.edges(way) for before in (0, 1)}
        for way in (THERE, BACK)
    ]
    return [(there, back) for there, back in found if there in edges[THERE] and back in edges[BACK]]


Altitude = Callable[..., Awaitable[tuple[str, str, Relay]]]
Run = Callable[[Cut], Awaitable[tuple[str, str, Relay]]]


def expected(flow: Flow | Posted, cut: Cut, relay: Relay) -> list[str]:
    """The endings that either side may have."""
    ends = [
        flow.client_ends[len(relay.ends(BACK)) - 1],
        flow.server_ends[len(relay.ends(THERE)) - 1],
    ]
    if cut.how == "silence":
        listens = relay.beats(BACK) > 0, isinstance(flow, Flow) and flow.heartbeats
        ends = [
            each if hears else in_silence(each) for each, hears in zip(ends, listens, strict=True)
        ]
    if not relay.ends(BACK)[1:]:  # over TLS hands may not have been shaken either
        ends[0] = f"{ends[0]}|{ends[0].replace('PeerDisconnected', 'CommunicationFailed')}"
    return ends


async def surprises(run: Run, flow: Flow | Posted, cut: Cut) -> list[str]:
    """Cut once; what came of it, if that was none of what may come of it."""
    *stories, relay = await run(cut)
    assert [len(passed) for passed in relay.passed] == [cut.there, cut.back]
    COUNTS["cuts"] += 1
    ends = expected(flow, cut, relay)
    if all(story in endings.split("|") for story, endings in zip(stories, ends, strict=True)):
        return []
    return [f"{cut}: {stories} instead of {ends}"]


def in_silence(endings: str) -> str:
    """Nothing tells that the peer is lost: a side that closes learns that it was in vain."""
    for told, untold in (
        ("<PeerDisconnected", ""),
        (" PeerDisconnected/", "/"),
        ("PeerDisconnected", "ChannelClosed"),
    ):
        endings = endings.replace(told, untold)
    return endings


EACH_HOW = pytest.mark.parametrize(
    ("kind", "how"), [(kind, how) for kind in KINDS for how in HOWS[kind]]
)


def over_tls() -> list[tuple[Flow, str]]:
    """Each flow in every manner; in the usual run the handshake, and of the others one each.

    Crossing ones are left out: how many messages share a record there is up to the moment.
    """
    flows = [flow for flow in STREAMS if not flow.crossing]
    hows = HOWS["tls"]
    return [
        (flow, how)
        for number, flow in enumerate(flows)
        for how in (hows if FULL or not number else [hows[number % len(hows)]])
    ]


async def cut_everywhere(altitude: Altitude, flow: Flow | Posted, kind: str, how: str) -> None:
    *_, recorded = await altitude(flow, kind)
    wrong = []
    # In the usual run each place is cut in every other manner, where sides cross in every fourth.
    step = 1 if FULL else 4 if flow.crossing else 2
    for place in places(flow, recorded)[HOWS[kind].index(how) % step :: step]:
        wrong += await surprises(partial(altitude, flow, kind), flow, Cut(how, *place))
    assert not wrong, "\n".join(wrong)


@EACH_HOW
@pytest.mark.parametrize("flow", STREAMS, ids=named)
async def test_a_stream_cut_anywhere_ends_on_both_sides(flow: Flow, kind: str, how: str) -> None:
    await cut_everywhere(stream, flow, kind, how)


@pytest.mark.timeout(900)
@pytest.mark.parametrize(("flow", "how"), over_tls(), ids=named)
async def test_a_stream_over_tls_cut_anywhere_ends_on_both_sides(flow: Flow, how: str) -> None:
    """After each byte of what is encrypted, and of the handshake before it."""
    await cut_everywhere(stream, flow, "tls", how)


@EACH_HOW
@pytest.mark.parametrize("flow", MESSAGES, ids=named)
async def test_messages_cut_anywhere_end_on_both_sides(flow: Posted, kind: str, how: str) -> None:
    await cut_everywhere(messages, flow, kind, how)


@EACH_HOW
@pytest.mark.parametrize("flow", CROWDED, ids=named)
async def test_who_is_cut_while_it_waits_for_a_place_takes_none(
    flow: Flow, kind: str, how: str
) -> None:
    """The listener is full; the cut client learns that it is lost, and the next one is served."""
    await cut_everywhere(crowded, flow, kind, how)


@pytest.mark.timeout(600)
async def test_a_silence_that_begins_anywhere_is_ended_by_deadlines(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nothing passes any more, without end: opening, heartbeats and closing all give up."""
    monkeypatch.setattr(closing_module, "BYE_TIMEOUT", 1.0)
    silences: list[Coroutine[Any, Any, list[str]]] = []
    for flow in STREAMS:
        if FULL or flow.name in QUIET:
            *_, recorded = await stream(flow, "tcp")
            run = partial(stream, flow, "tcp")
            silences += [
                surprises(run, flow, Cut("silence", *place)) for place in places(flow, recorded)
            ]
    wrong = []
    for start in range(0, len(silences), AT_ONCE):
        for found in await asyncio.gather(*silences[start : start + AT_ONCE]):
            wrong += found
    assert not wrong, "\n".join(wrong)
