"""Processor time per event, the reactor beside the stock loop, by how many descriptors are idle.

    python -m tests.benchmarks.reactor_events

Ten sockets are always active: each callback reads a message and sends it back; in the program that
changes interest it also stops reading and begins again, as one with flow control does. The two
loops alternate, so that both meet the same machine.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import platform
import socket
import time

from tests.benchmarks import processes
from tofu_aio.reactor import Loop

REGISTERED = (10, 1_000, 10_000)
PROGRAMS = ("steady interest", "changing interest")
LOOPS: dict[str, type[asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.SelectorEventLoop,
    "reactor": Loop,
}
RATE = 100_000
"""About as many events come in a second."""


async def cost_of_an_event(program: str, idle: int, events: int) -> float:
    """The processor time of one event, in microseconds, with so many idle descriptors."""
    loop = asyncio.get_running_loop()
    done = loop.create_future()
    left = events

    def answer(sock: socket.socket) -> None:
        nonlocal left
        sock.send(sock.recv(64))
        left -= 1
        if not left:
            done.set_result(None)

    def answer_and_change(sock: socket.socket) -> None:
        answer(sock)
        loop.remove_reader(sock)
        loop.add_reader(sock, answer_and_change, sock)

    callback = answer if program == PROGRAMS[0] else answer_and_change
    with contextlib.ExitStack() as stack:
        quiet, peer = socket.socketpair()
        stack.enter_context(quiet)
        stack.enter_context(peer)
        for _ in range(idle):
            copy = os.dup(quiet.fileno())
            stack.callback(os.close, copy)
            loop.add_reader(copy, print)
            stack.callback(loop.remove_reader, copy)
        for pair in [socket.socketpair() for _ in range(5)]:
            for sock in pair:
                stack.enter_context(sock)
                sock.setblocking(False)
                loop.add_reader(sock, callback, sock)
                stack.callback(loop.remove_reader, sock)
                sock.send(b"x")
        start = time.process_time()
        await done
        return (time.process_time() - start) / events * 1e6


def measure(program: str, registered: int, rounds: int, events: int) -> list[dict[str, float]]:
    """The cost of an event on each loop, round by round."""

    def one(loop: type[asyncio.AbstractEventLoop]) -> float:
        with asyncio.Runner(loop_factory=loop) as runner:
            return runner.run(cost_of_an_event(program, registered - 10, events))

    return [{name: one(loop) for name, loop in LOOPS.items()} for _ in range(rounds)]


def main() -> None:
    """Print one line a program and a number of descriptors: the best of all rounds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=0.4, help="of each, about")
    parser.add_argument("--json", action="store_true", help="a list a line, and no words")
    options = parser.parse_args()
    processes.allow_descriptors()
    if not options.json:
        print("Python", platform.python_version())
    for program in PROGRAMS:
        for registered in REGISTERED:
            costs = measure(program, registered, options.rounds, int(RATE * options.seconds))
            if options.json:
                print(json.dumps(costs), flush=True)
                continue
            stock, ours = (min(cost[name] for cost in costs) for name in LOOPS)
            print(
                f"{program}, {registered:6} registered: stock {stock:.2f} µs,"
                f" reactor {ours:.2f} µs, ratio {ours / stock:.3f}"
            )


if __name__ == "__main__":
    main()
