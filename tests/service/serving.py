"""What tests of services share: types of payloads, a service with its listener, what is left."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import msgspec

import tofu_aio as tofu
from tests.messaging.peers import RawPeer, check_nothing_is_held, frame, until
from tofu_aio.protocol.op_code import MORE_BIT


class Job(msgspec.Struct):
    """A payload with two fields."""

    width: int
    name: str = "job"


@dataclass
class Served:
    """A service that listens, in an engine of its own."""

    service: tofu.Service
    engine: tofu.Engine
    group: tofu.ChannelGroup
    listener: tofu.Listener
    serving: asyncio.Task[None]

    @property
    def address(self) -> str:
        return str(self.listener.address)

    def client(self, **options: Any) -> tofu.Client:
        return tofu.Client(self.address, **options)


def everything_free(service: tofu.Service) -> tuple[object, ...]:
    """What a service has while nothing runs: all slots, and no call."""
    return service.slots.free, service.streams.free, service.counts.running


async def nothing_runs(service: tofu.Service, free: tuple[object, ...]) -> None:
    """Wait until no call runs, and check that all slots are back."""
    await until(lambda: service.counts.running == 0, "for the calls to end")
    await until(lambda: everything_free(service) == free, "for the slots")


@contextlib.asynccontextmanager
async def served(
    service: tofu.Service,
    address: str = "tcp://127.0.0.1:0",
    *,
    pool_messages: int = 64,
    limits: dict[str, Any] | None = None,
    **options: Any,
) -> AsyncIterator[Served]:
    """Serve; at the end no call, slot, permit, channel or joining byte may be left.

    Only ``service.serve`` sets bounds, so ``limits`` has them here.
    """
    if limits:
        bounds: dict[str, Any] = {
            "concurrency": 256,
            "channel_concurrency": None,
            "streams": 1024,
            "max_body": 16 * 1024 * 1024,
        }
        service._limit(**{**bounds, **limits})
        if "max_body" in limits:
            options["max_body"] = limits["max_body"]
    free = everything_free(service)
    async with tofu.Engine(pool_messages=pool_messages, **options) as engine:
        async with engine.create_group() as group:
            listener = await group.listen(address)
            serving = asyncio.create_task(listener.serve(service.handle))
            try:
                yield Served(service, engine, group, listener, serving)
                await nothing_runs(service, free)
                await until(lambda: not service._sessions or not engine.statistics().application)
            finally:
                await listener.aclose()
                await serving
            assert not service._sessions, "sessions left behind"
        await nothing_runs(service, free)
    check_nothing_is_held(engine)
    assert engine.statistics().channels == 0


async def failure_of(awaitable: Any) -> BaseException:
    """The exception that something ends with."""
    try:
        result = await awaitable
    except Exception as error:
        return error
    raise AssertionError(f"no exception, but {result!r}")


def call_frame(
    name: str, body: bytes = b"", *, message_id: int = 7, more: bool = False, **headers: str
) -> bytes:
    """A call as a peer of plain tofu makes it."""
    lines = [f"call: {name}"] if name else []
    lines += [f"{key.replace('_', '-')}: {value}" for key, value in headers.items()]
    text = "".join(f"{line}\r\n" for line in lines).encode()
    op_code = tofu.OpCode.REQUEST | (MORE_BIT if more else 0)
    return frame(op_code, body, text, message_id=message_id)


async def answer_to(peer: RawPeer, data: bytes) -> tofu.Message:
    """Send a call by hand and return the answer."""
    await peer.send(data)
    return await peer.message()
