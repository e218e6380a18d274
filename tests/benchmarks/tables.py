"""What a run has measured, as tables for the documentation."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tests.benchmarks import idle, processes, reactor_case
from tests.benchmarks.cases import CASES, ONE, Case
from tests.benchmarks.load import PERCENTILES
from tests.benchmarks.results import Results, Spread, Subject
from tests.benchmarks.roster import CONTENDERS, Field
from tests.benchmarks.targets import NOT_MEASURED, Outcome

NOTHING = "-"


def whole(spread: Spread | None) -> str:
    """The middle of a large figure."""
    return f"{spread.median:,.0f}" if spread else NOTHING


def range_of(spread: Spread | None) -> str:
    """The middle, and both ends, to about three digits."""
    if not spread:
        return NOTHING
    median, lowest, highest = map(number, spread)
    return median if lowest == highest else f"{median} ({lowest} to {highest})"


def number(value: float) -> str:
    """To about three digits."""
    size = abs(value)
    return f"{value:,.{0 if size >= 100 else 2 if size >= 0.1 else 3}f}"


def of_case(case: Case, results: Results, field: Field) -> str:
    """Everybody in a case, beside the bare protocol and plain Python where these take part."""
    columns = ["contender", "loop", "echoes/s", "MB/s", "of bare", "of plain"]
    columns += ["server's CPU, µs each"]
    rows = []
    for loop in field.loops:
        bare = Subject(case.title, "bare", loop)
        for contender in case.contenders:
            subject = Subject(case.title, contender, loop)
            if subject not in results.rounds:
                continue
            carried = results.spread(subject, "bytes")
            rows.append(
                [
                    CONTENDERS[contender].title,
                    loop,
                    whole(results.spread(subject, "rate")),
                    f"{carried.median / 1e6:,.1f}" if carried else NOTHING,
                    range_of(results.ratio("rate", subject, bare)),
                    range_of(over_plain(results, "rate", subject)),
                    range_of(results.spread(subject, "cpu")),
                ]
            )
    return table(case.title, columns, rows)


def over_plain(results: Results, figure: str, subject: Subject) -> Spread | None:
    """For one on the compiled core: the ratio to the same one on plain Python."""
    plain = CONTENDERS[subject.contender].plain
    return results.ratio(figure, subject, subject._replace(contender=plain)) if plain else None


def of_latency(results: Results, field: Field) -> str:
    """The time of a round trip where one message is under way: medians of the rounds."""
    names = [f"p{percent:g}" for percent in PERCENTILES]
    rows = []
    for loop in field.loops:
        for contender in ONE.contenders:
            subject = Subject(ONE.title, contender, loop)
            if subject in results.rounds:
                times = [results.spread(subject, name) for name in names]
                bare = Subject(ONE.title, "bare", loop)
                ratios = [
                    results.ratio("p50", subject, bare),
                    over_plain(results, "p50", subject),
                ]
                rows.append(
                    [
                        CONTENDERS[contender].title,
                        loop,
                        *map(whole, times),
                        *map(range_of, ratios),
                    ]
                )
    columns = ["contender", "loop", *names, "p50 of bare", "p50 of plain"]
    return table(f"Round trip in µs: {ONE.title}", columns, rows)


def of_events(results: Results) -> str:
    """The reactor beside the stock loop, event by event."""
    rows = []
    for title in reactor_case.TITLES:
        ours, stock = (
            Subject(title, reactor_case.CONTENDER, loop) for loop in ("reactor", "asyncio")
        )
        if ours in results.rounds:
            costs = [results.spread(subject, "cpu") for subject in (stock, ours)]
            ratio = results.ratio("events", ours, stock)
            rows.append([title, *(range_of(cost) for cost in costs), range_of(ratio)])
    columns = ["descriptors", "asyncio, µs", "reactor, µs", "events a second, of asyncio's"]
    return table("CPU time of an event", columns, rows)


def of_targets(outcomes: Iterable[Outcome]) -> str:
    """Reached or not, by the median of the rounds; and what the limit is."""
    rows: list[list[str]] = [
        [
            outcome.target.title,
            outcome.loop,
            str(outcome.target.bound),
            range_of(outcome.spread),
            outcome.verdict(),
            range_of(outcome.limit),
        ]
        for outcome in outcomes
    ]
    rows += [
        [title, "", "", NOTHING, f"not measured: {why}", NOTHING]
        for title, why in NOT_MEASURED.items()
    ]
    columns = ["target", "loop", "bound", "measured", "verdict", "limit"]
    return table("Targets", columns, rows)


def all_of(
    results: Results,
    field: Field,
    idle_ones: idle.SeenOf,
    outcomes: Iterable[Outcome],
) -> str:
    """Every table of a run."""
    tables = [of_case(case, results, field) for case in CASES]
    tables += [of_latency(results, field), of_events(results)]
    tables += [f"**Idle connections**\n\n{idle.table(idle_ones)}" if idle_ones else ""]
    tables += [of_targets(outcomes)]
    return "\n\n".join(filter(None, tables))


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A title and a table; nothing without rows."""
    return f"**{title}**\n\n{processes.markdown(columns, rows)}" if rows else ""
