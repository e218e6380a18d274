"""What an idle connection takes: the resident memory of a server and a client with many of them.

Two processes on loopback for each contender, one contender after another. The memory of both is
looked at from outside with so many connections more at each step; what one takes is the slope from
the first step to the last, so the interpreter and what is loaded once do not count. What the kernel
holds for a socket is not in it, for any of them.
"""

from __future__ import annotations

import argparse
import time
from importlib.util import find_spec
from pathlib import Path

from tests.benchmarks import processes
from tests.benchmarks.processes import FOLDER

LOOPS = ("reactor", "asyncio", "uvloop")
CONTENDERS = {
    "bare": "a bare asyncio.Protocol",
    "tofu": "tofu_aio",
    "handled": "tofu_aio, a task for each",
    "tofu_compiled": "tofu_aio, compiled",
    "handled_compiled": "tofu_aio, compiled, a task for each",
    "plain": "websockets, compression=None",
    "websockets": "websockets",
}
PLAIN = {"tofu_compiled": "tofu", "handled_compiled": "handled"}
"""Those on the compiled core, with the same ones on plain Python."""

SETTLE = 1.0
"""Seconds for the server to finish with the last connections of a step."""


Seen = dict[str, list[float]]
"""The connections at each step, and the MiB of the server and of the client."""

SeenOf = dict[tuple[str, str], Seen]
"""By the contender and the loop."""


def measure(contender: str, loop: str, count: int, steps: int) -> Seen:
    """MiB of both processes, at each step."""
    name, environment = PLAIN.get(contender, contender), processes.variant(contender in PLAIN)
    server = processes.start("idle_peers", "server", name, loop, environment=environment)
    running = [server]
    result: Seen = {"connections": [], "server": [], "client": []}
    try:
        port = processes.next_line(server)
        client = processes.start("idle_peers", "client", name, loop, port, environment=environment)
        running.append(client)
        opened = 0
        # The first connections load what is loaded once.
        for step in [count // 50] + [count // steps] * steps:
            processes.tell(client, str(step))
            opened = int(processes.next_line(client))
            time.sleep(SETTLE)
            result["connections"].append(opened)
            for side, process in (("server", server), ("client", client)):
                size = processes.resident(process)
                assert size is not None
                result[side].append(size)
    finally:
        processes.end(running)
    return result


def slope(result: Seen, side: str) -> float:
    """KiB of a connection."""
    connections, sizes = result["connections"], result[side]
    return 1024 * (sizes[-1] - sizes[0]) / (connections[-1] - connections[0])


def table(results: SeenOf) -> str:
    """The figures."""
    columns = [
        "",
        "loop",
        "server, KiB each",
        "client, KiB each",
        "server in all, MiB",
        "client in all, MiB",
    ]
    rows = [
        [
            CONTENDERS[contender],
            loop,
            *(f"{slope(result, side):.1f}" for side in ("server", "client")),
            *(f"{result[side][-1]:.0f}" for side in ("server", "client")),
        ]
        for (contender, loop), result in results.items()
    ]
    return processes.markdown(columns, rows)


def draw(results: SeenOf, path: Path) -> None:
    """Connections across, the server's resident memory up."""
    loops = list(dict.fromkeys(loop for _, loop in results))
    figure, panels = processes.figure(len(loops), "A server with idle connections")
    for panel, loop in zip(panels if len(loops) > 1 else [panels], loops, strict=True):
        for contender, name in CONTENDERS.items():
            if (contender, loop) not in results:
                continue
            result = results[contender, loop]
            panel.plot(result["connections"], result["server"], ".-", label=name)
        panel.set(title=loop, xlabel="connections", ylim=(0, None))
    first = panels[0] if len(loops) > 1 else panels
    first.set_ylabel("resident memory, MiB")
    figure.legend(*first.get_legend_handles_labels(), loc="outside lower center", ncols=5)
    processes.write_svg(figure, path)


def main() -> None:
    """Run all in turn, print the table, and draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--connections", type=int, default=10_000)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--plot", type=Path, default=FOLDER / "idle.svg")
    parser.add_argument("--json", type=Path, help="write all that was measured here")
    options = parser.parse_args()
    loops = [loop for loop in LOOPS if loop != "uvloop" or find_spec(loop)]
    why = processes.why_plain()
    contenders = [name for name in CONTENDERS if not why or name not in PLAIN]
    if why:
        print(why)
    results = {
        (contender, loop): measure(contender, loop, options.connections, options.steps)
        for loop in loops
        for contender in contenders
    }
    print(f"{options.connections} idle connections; {processes.machine()}\n")
    print(table(results))
    draw(results, options.plot)
    if options.json:
        told = {f"{contender} {loop}": result for (contender, loop), result in results.items()}
        processes.write_json(options.json, told)


if __name__ == "__main__":
    main()
