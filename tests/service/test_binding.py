"""Objects whose methods call handlers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Protocol

import pytest

import tofu_aio as tofu
from tests.messaging.peers import RawServer
from tests.service.serving import Job, failure_of, served
from tests.service.test_client import FAST, accept_by_hand, answer, raw_request
from tests.service.test_service import sample


class Images(Protocol):
    async def resize(self, job: Job) -> Job: ...

    async def optional(self, number: int = 3) -> int: ...

    async def nothing(self) -> None: ...

    async def maybe(self, number: int | None) -> int | None: ...

    def watch(self, count: int) -> AsyncIterator[Job]: ...

    async def store(self, parts: AsyncIterator[bytes]) -> int: ...

    def double(self, parts: AsyncIterator[int]) -> AsyncIterator[int]: ...

    def _private(self) -> int: ...


async def numbers() -> AsyncIterator[int]:
    yield 1
    yield 2


async def parts() -> AsyncIterator[bytes]:
    yield b"abc"


async def test_methods_of_all_kinds() -> None:
    async with served(sample()) as there, there.client() as client:
        images = client.bind(Images)  # type: ignore[type-abstract]
        assert await images.resize(Job(2)) == Job(4, "JOB")
        assert await images.resize(job=Job(2)) == Job(4, "JOB")
        assert await images.optional() == 3
        assert await images.optional(5) == 5
        assert await images.nothing() is None
        assert await images.maybe(None) is None
        assert [job.width async for job in images.watch(2)] == [0, 1]
        assert await images.store(parts()) == 3
        assert [number async for number in images.double(numbers())] == [2, 4]


async def test_wrong_arguments_are_errors_of_the_call_itself() -> None:
    async with served(sample()) as there, there.client() as client:
        images = client.bind(Images)  # type: ignore[type-abstract]
        for wrong in (
            images.resize,  # type: ignore[call-arg]
            lambda: images.resize(Job(1), Job(2)),  # type: ignore[call-arg]
            lambda: images.nothing(5),  # type: ignore[call-arg]
            lambda: images.resize(other=5),  # type: ignore[call-arg]
        ):
            with pytest.raises(TypeError):
                wrong()


async def test_a_prefix_and_a_base_class() -> None:
    service = tofu.Service()

    @service.handler("v2.base")
    async def base() -> str:
        return "base"

    @service.handler("v2.own")
    async def own() -> str:
        return "own"

    class Base(Protocol):
        async def base(self) -> str: ...

    class Derived(Base, Protocol):
        async def own(self) -> str: ...

    async with served(service) as there, there.client() as client:
        bound = client.bind(Derived, prefix="v2.")  # type: ignore[type-abstract]
        assert (await bound.base(), await bound.own()) == ("base", "own")


class Empty(Protocol): ...


class TwoPayloads(Protocol):
    async def two(self, a: int, b: int) -> int: ...


def function() -> Iterator[int]: ...


@pytest.mark.parametrize(
    ("interface", "said"),
    [
        (Empty, "Empty has no methods"),
        (TwoPayloads, "'b' among them"),
        (function, "takes a class"),
        (5, "takes a class"),
    ],
)
async def test_what_has_no_meaning_is_refused(interface: object, said: str) -> None:
    async with tofu.Client("tcp://127.0.0.1:1") as client:
        with pytest.raises(TypeError, match=said):
            client.bind(interface)  # type: ignore[arg-type]


async def test_a_method_that_may_be_carried_out_twice_is_tried_again() -> None:
    class Work(Protocol):
        @tofu.idempotent
        async def look(self) -> int: ...

        async def change(self) -> int: ...

    with RawServer() as server:
        async with tofu.Client(server.address, backoff=FAST) as client:
            work = client.bind(Work)  # type: ignore[type-abstract]
            looking = asyncio.create_task(work.look())
            with await accept_by_hand(server) as peer:
                await raw_request(peer)
                await peer.reset()
            with await accept_by_hand(server) as peer:
                await peer.send(answer(await raw_request(peer)))
                assert await looking == 1
                changing = asyncio.create_task(work.change())
                await raw_request(peer)
                await peer.reset()
                assert isinstance(await failure_of(changing), tofu.PeerDisconnected)
