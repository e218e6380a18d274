"""A user's program with types, which mypy and pyright accept."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Protocol, TypedDict

import tofu_aio as tofu


@dataclass
class Resize:
    width: int


@dataclass
class Resized:
    width: int
    took: float


class Query(TypedDict):
    text: str


class Database: ...


service = tofu.Service()


@service.resource("service")
@asynccontextmanager
async def database() -> AsyncIterator[Database]:
    yield Database()


@service.use
async def middleware(call: tofu.Call, following: tofu.Next) -> object:
    return await following(call)


@service.handler("resize")
async def resize(job: Resize, db: Database, call: tofu.Call) -> Resized:
    return Resized(job.width, call.remaining or 0.0)


@service.handler("find")
async def find(query: Query) -> AsyncIterator[Resized]:
    yield Resized(len(query["text"]), 0.0)


@service.handler("store")
async def store(parts: AsyncIterator[bytes]) -> int:
    return sum([len(part) async for part in parts])


class Images(Protocol):
    async def resize(self, job: Resize) -> Resized: ...

    def find(self, query: Query) -> AsyncIterator[Resized]: ...

    async def store(self, parts: AsyncIterator[bytes]) -> int: ...


async def main() -> None:
    async with tofu.Client("tcp://127.0.0.1:7000") as client:
        small: Resized = await client.call("resize", Resize(1), result=Resized, timeout=2)
        several: list[Resized] = await client.call("several", result=list[Resized])
        anything: object = await client.call("resize", Resize(1))
        count: int = await client.upload("store", [b"a"], result=int)
        async for each in client.stream("find", {"text": "a"}, item=Resized):
            print(each.width + small.width + count, several, anything)
        images = client.bind(Images)
        one: Resized = await images.resize(Resize(1))
        async for found in images.find({"text": "a"}):
            print(found.took + one.took)


tofu.run(service.serve("tcp://127.0.0.1:7000", "uds:///run/app.sock", concurrency=100, drain=30))
