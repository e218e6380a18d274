"""Workers get print jobs from a spool server, and report on them: python print_server.py.

Each worker connects, and its Hello says what it can print. The spooler sends it one job after the
other, as requests. The worker signals its progress, and responds when the job is done. When no job
is left, the spooler closes the channel, and the worker stops.
"""

import asyncio
from collections import deque

import tofu_aio as tofu

JOBS = [
    ("report.pdf", "pdf", 3),
    ("photo.png", "png", 1),
    ("thesis.pdf", "pdf", 5),
    ("notes.txt", "txt", 1),
    ("map.png", "png", 2),
]


class Spooler:
    """The jobs that are left, by format."""

    def __init__(self) -> None:
        self.waiting = {name: deque[tuple[str, int]]() for name in ("pdf", "png", "txt")}
        for name, kind, pages in JOBS:
            self.waiting[kind].append((name, pages))

    async def serve(self, channel: tofu.Channel) -> None:
        """Send a worker all jobs that it can print."""
        worker = channel.hello.headers["Worker"]
        kinds = channel.hello.headers["Formats"].split(",")
        watching = asyncio.create_task(self.watch(channel, worker))
        for kind in kinds:
            while self.waiting[kind]:
                name, pages = self.waiting[kind].popleft()
                order = {"Format": kind, "Pages": str(pages)}
                with await channel.request(name.encode(), order, timeout=30) as done:
                    print(f"{worker}: {name} {done.status.name.lower()}")
        watching.cancel()

    async def watch(self, channel: tofu.Channel, worker: str) -> None:
        """Show the worker's progress."""
        async for signal in channel:
            with signal:
                print(f"{worker}: {signal.body.decode()} page {signal.headers['Page']}")


async def work(address: tofu.Address, name: str, formats: str) -> None:
    hello = {"Worker": name, "Formats": formats}
    async with tofu.connect(address, headers=hello) as channel:
        async for job in channel:
            with job:
                for page in range(1, int(job.headers["Pages"]) + 1):
                    await channel.signal(job.body, {"Page": str(page)}, message_id=job.message_id)
                    await asyncio.sleep(0.01)  # the printing
                await channel.reply(job)
    print(f"{name}: no more jobs")


async def main() -> None:
    async with tofu.Engine() as engine, engine.create_group() as group:
        listener = await group.listen("tcp://127.0.0.1:0")
        serving = asyncio.create_task(listener.serve(Spooler().serve))
        async with asyncio.TaskGroup() as workers:
            workers.create_task(work(listener.address, "laser", "pdf,txt"))
            workers.create_task(work(listener.address, "plotter", "png"))
        await listener.aclose()
        await serving


tofu.run(main())
