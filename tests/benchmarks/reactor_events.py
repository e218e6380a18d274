"""Processor time per event, the reactor beside the stock loop, by how many descriptors are idle.

    python -m tests.benchmarks.reactor_events

Ten sockets are always active: each callback reads a message and sends it back. Best of several
runs, alternating, so that both meet the same machine.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys
import time

from tofu_aio.reactor import Loop

EVENTS = 40_000
RUNS = 9


async def cost_of_an_event(idle: int) -> float:
    """Return the processor time of one event, in microseconds, with so many idle descriptors."""
    loop = asyncio.get_running_loop()
    done = loop.create_future()
    left = EVENTS

    def answer(sock: socket.socket) -> None:
        nonlocal left
        sock.send(sock.recv(64))
        left -= 1
        if not left:
            done.set_result(None)

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
                loop.add_reader(sock, answer, sock)
                stack.callback(loop.remove_reader, sock)
                sock.send(b"x")
        start = time.process_time()
        await done
        return (time.process_time() - start) / EVENTS * 1e6


def main() -> None:
    """Print one line a number of descriptors."""
    print("Python", sys.version.split()[0])
    for registered in (10, 1_000, 10_000):
        costs: dict[type[asyncio.AbstractEventLoop], list[float]] = {
            asyncio.SelectorEventLoop: [],
            Loop: [],
        }
        for _ in range(RUNS):
            for kind, seen in costs.items():
                with asyncio.Runner(loop_factory=kind) as runner:
                    seen.append(runner.run(cost_of_an_event(registered - 10)))
        stock, ours = map(min, costs.values())
        print(
            f"{registered:6} registered: stock {stock:.2f} us, reactor {ours:.2f} us,"
            f" ratio {ours / stock:.3f}"
        )


if __name__ == "__main__":
    main()
