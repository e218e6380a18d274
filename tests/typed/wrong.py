"""The same program with five mistakes, each of which mypy and pyright find."""

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
        small: Resized = await client.call("resize", Resize(1), result=Resize, timeout=2)  # wrong
        several: list[Resized] = await client.call("several", result=list[Resized])
        anything: int = await client.call("resize", Resize(1))  # wrong
        count: int = await client.upload("store", [b"a"], result=str)  # wrong
        async for each in client.stream("find", {"text": "a"}, item=Resized):
            print(each.widht + small.width + count, several, anything)  # wrong
        images = client.bind(Images)
        one: Resized = await images.resize(Query(text="a"))  # wrong
        async for found in images.find({"text": "a"}):
            print(found.took + one.took)


tofu.run(service.serve("tcp://127.0.0.1:7000", "uds:///run/app.sock", concurrency=100, drain=30))
