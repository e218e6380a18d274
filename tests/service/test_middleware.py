"""Middleware: what it sees, and whatever it does wrong."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator

import pytest

import tofu_aio as tofu
from tests.service.serving import Job, failure_of, served
from tests.service.test_service import items, sample
from tofu_aio.service.call import Middleware, Next


async def swallows(call: tofu.Call, following: Next) -> object:
    try:
        return await following(call)
    except Exception:
        return None


async def twice(call: tofu.Call, following: Next) -> object:
    await following(call)
    return await following(call)


async def never(call: tofu.Call, following: Next) -> object:
    return None


async def raises(call: tofu.Call, following: Next) -> object:
    raise ZeroDivisionError("a bug")


async def raises_after(call: tofu.Call, following: Next) -> object:
    await following(call)
    raise ZeroDivisionError("a bug")


async def refuses(call: tofu.Call, following: Next) -> object:
    raise tofu.ServiceError("permission_denied", "not you")


def no_coroutine(call: tofu.Call, following: Next) -> object:
    return 5


async def wrong_type(call: tofu.Call, following: Next) -> object:
    await following(call)
    return object()


def service_with(*middleware: object) -> tofu.Service:
    service = sample()
    for each in middleware:
        service.use(each)  # type: ignore[type-var]

    @service.handler("bug")
    async def bug(number: int) -> int:
        raise ZeroDivisionError("a bug")

    return service


@pytest.mark.parametrize(
    ("middleware", "name", "code"),
    [
        (swallows, "bug", "internal"),
        (never, "resize", "internal"),
        (never, "watch", "internal"),
        (never, "store", "internal"),
        (raises, "resize", "internal"),
        (raises, "watch", "internal"),
        (raises, "store", "internal"),
        (raises_after, "resize", "internal"),
        (raises_after, "store", "internal"),
        (refuses, "resize", "permission_denied"),
        (refuses, "watch", "permission_denied"),
        (refuses, "store", "permission_denied"),
        (no_coroutine, "resize", "internal"),
        (wrong_type, "resize", "internal"),
    ],
)
async def test_what_it_does_wrong_fails_the_call(
    middleware: Middleware, name: str, code: str, errors: list[logging.LogRecord]
) -> None:
    async with served(service_with(middleware)) as there, there.client() as client:
        if name == "watch":
            error = await failure_of(anext(client.stream("watch", 3, item=Job)))
        elif name == "store":
            error = await failure_of(client.upload("store", [b"a"] * 3, result=int))
        else:
            error = await failure_of(client.call(name, 1 if name == "bug" else Job(1)))
        assert isinstance(error, tofu.ServiceError), error
        assert error.code == code
        assert await client.call("tofu.health") == {"status": "serving"}
    assert len(errors) == (code == "internal")


async def test_next_may_be_called_twice() -> None:
    async with served(service_with(twice)) as there, there.client() as client:
        assert await client.call("resize", Job(1), result=Job) == Job(2, "JOB")
        # All items have arrived before it begins again.
        found = [job.width async for job in client.stream("watch", 3, item=Job)]
        assert found == [0, 1, 2]
        assert await client.upload("store", [b"a"] * 3, result=int) == 0


async def test_a_stream_whose_middleware_fails_at_its_end_is_complete() -> None:
    async with served(service_with(raises_after)) as there, there.client() as client:
        assert [job.width async for job in client.stream("watch", 3, item=Job)] == [0, 1, 2]


async def test_its_order_and_what_it_sees() -> None:
    service = tofu.Service()
    seen: list[object] = []

    def noting(name: str) -> Middleware:
        async def middleware(call: tofu.Call, following: Next) -> object:
            seen.append((name, call.name, call.headers["extra"], call.hello["token"]))
            call.state[name] = name
            result = await following(call)
            seen.append((name, result))
            return result

        return middleware

    service.use(noting("outer"))
    service.use(noting("inner"))

    @service.handler("work")
    async def work(number: int, call: tofu.Call) -> int:
        assert call.state == {"outer": "outer", "inner": "inner"}
        assert call.remaining is not None
        assert call.peer is call.channel.peer
        return number

    async with served(service) as there, there.client(headers={"token": "t"}) as client:
        headers = {"extra": "e"}
        assert await client.call("work", 1, result=int, timeout=100, headers=headers) == 1
    assert seen == [
        ("outer", "work", "e", "t"),
        ("inner", "work", "e", "t"),
        ("inner", 1),
        ("outer", 1),
    ]


async def test_only_the_health_check_has_none() -> None:
    """It must not need a token, and the names of the handlers may."""
    async with served(service_with(refuses)) as there, there.client() as client:
        assert await client.call("tofu.health") == {"status": "serving"}
        assert isinstance(await failure_of(client.call("tofu.names")), tofu.ServiceError)


def test_what_is_no_function_is_refused() -> None:
    with pytest.raises(TypeError, match="give an async function"):
        tofu.Service().use(5)  # type: ignore[type-var]


async def test_it_is_cancelled_with_its_call() -> None:
    service = sample()
    cancelled = asyncio.Event()

    @service.use
    async def hangs(call: tofu.Call, following: Next) -> object:
        try:
            return await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            cancelled.set()
            raise

    async with served(service) as there, there.client() as client:
        with pytest.raises(TimeoutError):
            await client.call("resize", Job(1), timeout=0.2)
        with pytest.raises(TimeoutError):
            await client.upload("sum", items(Job(1)), result=int, timeout=0.2)
        await cancelled.wait()


async def endless() -> AsyncIterator[bytes]:
    while True:
        yield b"x"


async def test_an_upload_that_middleware_refuses_is_not_sent_without_end() -> None:
    async with served(service_with(refuses)) as there, there.client() as client:
        error = await failure_of(client.upload("store", endless(), result=int))
        assert isinstance(error, tofu.ServiceError)
        assert error.code == "permission_denied"
