"""What the project wants to reach, as a table, and what of it a run has reached."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal, NamedTuple

from tests.benchmarks import calibration, idle_case, reactor_case
from tests.benchmarks.cases import (
    FEW_BUSIER,
    FEW_CHANNELS,
    LARGE,
    MANY,
    MANY_BUSIER,
    MANY_CHANNELS,
    ONE,
    PAGES,
    SOME,
    SOME_CALLS,
    Case,
)
from tests.benchmarks.results import Results, Spread, Subject

How = Callable[[Results, str, Subject, Subject], Spread | None]
Verdict = Literal["reached", "not reached", "not measured", "not for this machine"]

EACH = ""
"""As a loop: each of the run, compared with the same one."""


class Bound(NamedTuple):
    """What a figure may be."""

    sign: Literal["≥", "≤"]
    value: float
    unit: str = ""

    def __str__(self) -> str:
        return f"{self.sign} {self.value:g}{self.unit}"

    def holds(self, value: float) -> bool:
        """Whether the figure is on the right side."""
        return value >= self.value if self.sign == "≥" else value <= self.value


@dataclass(frozen=True)
class Target:
    """A figure of ours compared with another one.

    Attributes:
        title: what it says.
        figure: its name in the measurements.
        ours: whose it is.
        theirs: whose the other is.
        bound: of the comparison.
        how: what is compared, in each round.
        limit: who, in our place, tells how far anybody gets here: the bare protocol, or a sketch
            that keeps no promise; "" if nobody does.
        fast_only: whether it is one for machines where Python is fast.
    """

    title: str
    figure: str
    ours: Subject
    theirs: Subject
    bound: Bound
    how: How = Results.ratio
    limit: str = ""
    fast_only: bool = False


class Outcome(NamedTuple):
    """What became of a target on a loop, and what the limit is there, if anybody tells.

    ``applies`` says whether it is a target for a machine like this one.
    """

    target: Target
    loop: str
    spread: Spread | None
    limit: Spread | None
    applies: bool = True

    def verdict(self) -> Verdict:
        """By the median of the rounds."""
        if self.spread is None:
            return "not measured"
        if not self.applies:
            return "not for this machine"
        return "reached" if self.target.bound.holds(self.spread.median) else "not reached"


def rate(case: Case, rival: str, least: float, contender: str = "tofu", limit: str = "") -> Target:
    """Echoes a second over a rival's."""
    what = _NAMES.get(contender, "")
    return Target(
        f"{case.title}{what}: rate over that of {rival}",
        "rate",
        Subject(case.title, contender, EACH),
        Subject(case.title, rival, EACH),
        Bound("≥", least),
        limit=limit,
    )


_NAMES = {
    "requests": ", request() from 64 tasks",
    "calls": ", client.call()",
    "tofu_compiled": ", compiled",
    "requests_compiled": ", request() from 64 tasks, compiled",
}
"""What a target's title says of a contender other than the first of ours."""

_RIVALS = {"tofu": "plain", "requests": "plain"}
"""How a target's title calls a rival of the compiled core."""


def compiled(
    case: Case,
    rival: str,
    least: float,
    contender: str = "tofu_compiled",
    figure: str = "rate",
    fast_only: bool = False,
) -> Target:
    """Echoes a second with the compiled core over a rival's."""
    what = "bytes a second over those" if figure == "bytes" else "rate over that"
    where = ", where Python is fast" if fast_only else ""
    return Target(
        f"{case.title}{_NAMES[contender]}: {what} of {_RIVALS.get(rival, rival)}{where}",
        figure,
        Subject(case.title, contender, EACH),
        Subject(case.title, rival, EACH),
        Bound("≥", least),
        fast_only=fast_only,
    )


def compiled_trip(rival: str, most: float) -> Target:
    """The time of a round trip with the compiled core over a rival's."""
    return Target(
        f"{ONE.title}, compiled: round trip (p50) over that of {_RIVALS.get(rival, rival)}",
        "p50",
        Subject(ONE.title, "tofu_compiled", EACH),
        Subject(ONE.title, rival, EACH),
        Bound("≤", most),
    )


def compiled_idle(side: str) -> Target:
    """Memory of an idle channel with the compiled core over that of a plain one."""
    return Target(
        f"10,000 idle channels, compiled, {side}: bytes each over plain ones",
        side,
        Subject(idle_case.TITLE, "tofu_compiled", EACH),
        Subject(idle_case.TITLE, "tofu", EACH),
        Bound("≤", 1),
    )


def busy(many: Case, few: Case) -> Target:
    """Echoes a second over all channels, over those with fewer of them."""
    return Target(
        f"{many.title}: rate over that at {few.channels}",
        "rate",
        Subject(many.title, "tofu", EACH),
        Subject(few.title, "tofu", EACH),
        Bound("≥", 0.8),
        limit="bare",
    )


def idle(side: str) -> Target:
    """Memory of an idle channel over that of a bare protocol's connection."""
    return Target(
        f"10,000 idle channels, {side}: bytes each more than bare",
        side,
        Subject(idle_case.TITLE, "tofu", EACH),
        Subject(idle_case.TITLE, "bare", EACH),
        Bound("≤", 1500, " B"),
        Results.difference,
    )


def reactor(title: str, figure: str, contender: str, bound: Bound) -> Target:
    """The reactor beside the stock loop."""
    return Target(
        f"the reactor over the stock loop: {contender}, {title}",
        figure,
        Subject(title, contender, "reactor"),
        Subject(title, contender, "asyncio"),
        bound,
    )


TARGETS = [
    rate(SOME, "bare", 0.55, limit="sketch"),
    rate(SOME, "picows", 1.2),
    rate(SOME, "websockets", 3),
    rate(SOME, "pyzmq", 10),
    rate(SOME, "pynng", 10),
    rate(SOME, "grpc", 10),
    rate(MANY, "bare", 0.65, limit="sketch"),
    Target(
        f"{ONE.title}: round trip (p50) over that of bare",
        "p50",
        Subject(ONE.title, "tofu", EACH),
        Subject(ONE.title, "bare", EACH),
        Bound("≤", 1.15),
        limit="sketch",
    ),
    rate(SOME, "bare", 0.35, contender="requests", limit="sketch_requests"),
    Target(
        f"{LARGE.title}: bytes a second over those of bare",
        "bytes",
        Subject(LARGE.title, "tofu", EACH),
        Subject(LARGE.title, "bare", EACH),
        Bound("≥", 0.8),
    ),
    Target(
        f"{SOME.title}: the server's CPU time of an echo more than bare",
        "cpu",
        Subject(SOME.title, "tofu", EACH),
        Subject(SOME.title, "bare", EACH),
        Bound("≤", 2.5, " µs"),
        Results.difference,
    ),
    rate(SOME_CALLS, "requests", 0.6, contender="calls"),
    rate(SOME_CALLS, "grpc_unary", 8, contender="calls"),
    idle("server"),
    idle("client"),
    busy(MANY_CHANNELS, FEW_CHANNELS),
    busy(MANY_BUSIER, FEW_BUSIER),
    compiled(SOME, "tofu", 3.5),
    compiled(SOME, "picows", 2.5),
    compiled(SOME, "bare", 0.75, fast_only=True),
    compiled(MANY, "tofu", 4.5),
    compiled(SOME, "requests", 2.5, contender="requests_compiled"),
    compiled(SOME, "picows", 1.2, contender="requests_compiled"),
    compiled_trip("tofu", 0.6),
    compiled_trip("picows", 1.3),
    compiled(PAGES, "tofu", 2),
    compiled(LARGE, "bare", 0.8, figure="bytes"),
    compiled_idle("server"),
    compiled_idle("client"),
]
TARGETS += [
    reactor(case.title, "rate", contender, Bound("≥", 1.0))
    for case in (ONE, SOME)
    for contender in ("bare", "tofu")
]
TARGETS += [
    reactor(title, "events", reactor_case.CONTENDER, Bound("≥", 1.0))
    for title in reactor_case.TITLES
]

NOT_MEASURED = {
    "64 KiB bodies: copies of the body in our code, receiving ≤ 1 and sending 0": (
        "tests of the decoder and of the connection hold them"
    ),
}
"""Targets that no figure of a run can tell, each with the reason."""


def outcomes(results: Results, loops: Iterable[str]) -> list[Outcome]:
    """Of each target, on each loop that it is for."""
    told = []
    for target in TARGETS:
        for loop in [target.ours.loop] if target.ours.loop else loops:
            spread = compared(results, target, loop, target.ours.contender)
            limit = compared(results, target, loop, target.limit) if target.limit else None
            applies = not target.fast_only or calibration.is_fast(results)
            told.append(Outcome(target, loop, spread, limit, applies))
    return told


def compared(results: Results, target: Target, loop: str, who: str) -> Spread | None:
    """What is measured on a loop for a target, with somebody in our place."""
    ours, theirs = (
        subject._replace(
            contender=who if subject.contender == target.ours.contender else subject.contender,
            loop=subject.loop or loop,
        )
        for subject in (target.ours, target.theirs)
    )
    return target.how(results, target.figure, ours, theirs)


def to_json(outcomes: Iterable[Outcome]) -> list[dict[str, object]]:
    """Each target with what became of it, also those that cannot be measured."""
    told: list[dict[str, object]] = [
        {
            "target": outcome.target.title,
            "loop": outcome.loop,
            "bound": str(outcome.target.bound),
            "measured": outcome.spread,
            "limit": outcome.limit,
            "verdict": outcome.verdict(),
        }
        for outcome in outcomes
    ]
    return told + [
        {"target": title, "verdict": f"not measured: {why}"} for title, why in NOT_MEASURED.items()
    ]
