"""Engines and the children of their process: ``python -m tests.forks.conversations LOOP CASE``."""

from __future__ import annotations

from tests.forks.children import Child, held_back  # isort: skip - before tofu_aio

import asyncio
import contextlib
import os
import resource
import select
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

import tofu_aio as tofu
from tests.messaging.peers import until
from tofu_aio import OpCode
from tofu_aio.messaging.posting.posted import PostedChannel
from tofu_aio.transport.socket_acceptor import SocketAcceptor

PATIENCE = 20.0


@contextlib.asynccontextmanager
async def running() -> AsyncIterator[tuple[tofu.Engine, tofu.ChannelGroup]]:
    async with tofu.Engine() as engine, engine.create_group() as group:
        yield engine, group


async def pair(
    group: tofu.ChannelGroup, listener: tofu.Listener
) -> tuple[tofu.Channel, tofu.Channel]:
    client, server = await asyncio.gather(group.connect(listener.address), listener.accept())
    return client, server


async def converse(client: tofu.Channel, server: tofu.Channel) -> None:
    """Nobody else has said a word in between."""
    for sender, receiver in ((client, server), (server, client)):
        await sender.signal(b"of the parent")
        async with asyncio.timeout(PATIENCE):
            with await receiver.receive() as message:
                assert message.body == b"of the parent"


@contextlib.contextmanager
def idle_child() -> Iterator[None]:
    """A child that does nothing until this ends."""
    end, key = os.pipe()

    def wait() -> None:
        os.close(key)
        os.read(end, 1)

    child = Child(wait)
    try:
        yield
    finally:
        os.close(key)
        os.close(end)
        assert child.wait() == 0


def refused(*calls: Callable[[], object]) -> None:
    for call in calls:
        with pytest.raises(tofu.TofuError, match="create a new one in the child"):
            call()


async def what_a_child_does_with_channels_and_listeners() -> None:
    with tempfile.TemporaryDirectory(prefix="tofu", dir="/tmp") as folder:
        async with running() as (_, group):
            listener = await group.listen("tcp://127.0.0.1:0")
            path = await group.listen(f"uds://{folder}/s")
            pairs = [await pair(group, each) for each in (listener, path)]
            number = group.post(
                tofu.Message(OpCode.HELLO_REQUEST, headers={"~connect_to": header(listener)})
            ).channel_number
            posted = await listener.accept()
            (await group.receive()).release()

            def in_child() -> None:
                message = tofu.Message(OpCode.SIGNAL, b"of the child")
                message.channel_number = number
                refused(
                    lambda: group.post(message),
                    *(lambda channel=each: channel.post(message) for each in pairs[0]),
                )
                for client, server in pairs:
                    client.abort()
                    with contextlib.suppress(StopIteration):
                        server.aclose().__await__().__next__()
                for each in (listener, path):
                    with contextlib.suppress(StopIteration):
                        each.aclose().__await__().__next__()

            assert Child(in_child).wait() == 0
            assert is_there(f"{folder}/s")
            for client, server in pairs:
                await converse(client, server)
            for each in (listener, path):
                await converse(*await pair(group, each))
            message = tofu.Message(OpCode.SIGNAL, b"of the parent")
            message.channel_number = number
            group.post(message)
            with await posted.receive() as message:
                assert message.body == b"of the parent"


def is_there(path: str) -> bool:
    return Path(path).exists()


def remove(folder: str) -> None:
    Path(folder).rmdir()


def header(listener: tofu.Listener) -> str:
    return listener.address.to_header()


async def what_a_child_asks_of_an_engine() -> None:
    async with running() as (engine, group):
        listener = await group.listen("tcp://127.0.0.1:0")
        client, _ = await pair(group, listener)

        def first_step(coroutine: object) -> None:
            coroutine.__await__().__next__()  # type: ignore[attr-defined]

        def in_child() -> None:
            opening = tofu.Message(OpCode.HELLO_REQUEST, headers={"~connect_to": header(listener)})
            refused(
                engine.create_group,
                group.update_receiver,
                lambda: group.post(opening),
                lambda: first_step(group.receive()),
                lambda: first_step(group.listen("tcp://127.0.0.1:0")),
                lambda: first_step(client.receive()),
                lambda: first_step(client.signal(b"?")),
                lambda: first_step(engine.__aenter__()),
            )

        assert Child(in_child).wait() == 0


async def a_child_that_leaves_by_an_exception() -> None:
    """It has nothing to close, and nobody to wait for."""
    # No context manager, which would remove it in the child, too.
    folder = tempfile.mkdtemp(prefix="tofu", dir="/tmp")
    async with running() as (_, group), await group.listen(f"uds://{folder}/s") as listener:
        client, server = await pair(group, listener)
        async with client, server:
            pid = os.fork()
            if not pid:
                raise SystemExit(7)
            code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])  # noqa: ASYNC222
            # A child that closes a loop of uvloop's crashes in there.
            assert code == 7 or sys.argv[1] == "uvloop"
            assert is_there(f"{folder}/s")
            await converse(client, server)
    remove(folder)


async def a_child_with_an_engine_of_its_own() -> None:
    async with running() as (_, group):
        listener = await group.listen("tcp://127.0.0.1:0")
        unused = tofu.Engine()

        async def talk() -> None:
            async with (
                unused,
                unused.create_group() as own,
                own.connect(listener.address) as channel,
            ):
                await channel.signal(b"of the child")

        # Another loop than its parent's: what is inherited of those that are not ours is shared.
        child = Child(lambda: asyncio.run(talk()))
        async with await listener.accept() as channel:
            assert [message.body async for message in channel] == [b"of the child"]
        assert child.wait() == 0


async def what_is_closed_while_a_child_lives() -> None:
    async with running() as (_, group):
        listener = await group.listen("tcp://127.0.0.1:0")
        pairs = [await pair(group, listener) for _ in range(2)]
        silent = socket.create_connection((listener.address.host, listener.address.port))
        await asyncio.sleep(0.05)  # it is accepted
        with idle_child():
            async with asyncio.timeout(PATIENCE):
                (aborted, told), (closed, also_told) = pairs
                aborted.abort()
                try:
                    await told.receive()
                except tofu.PeerDisconnected:
                    pass
                else:
                    raise AssertionError
                await asyncio.gather(closed.aclose(), also_told.aclose())
                await listener.aclose()
                assert await asyncio.get_running_loop().run_in_executor(None, is_closed, silent)
                await (await group.listen(listener.address)).aclose()
        silent.close()


def is_closed(sock: socket.socket) -> bool:
    sock.settimeout(PATIENCE)
    try:
        return sock.recv(1) == b""
    except ConnectionResetError:
        return True


async def who_is_dropped_as_a_child_is_forked() -> None:
    """None is in any table of the listener's any more, and none is closed yet."""

    async def accepted(listener: tofu.Listener) -> socket.socket:
        callers = listener._admission._silent
        known, sock = len(callers), connect_to(listener)
        await until(lambda: len(callers) > known)
        return sock

    async with running() as (_, group):
        listener = await group.listen("tcp://127.0.0.1:0")
        silent = [await accepted(listener) for _ in range(2)]
        acceptor_of(listener).close()
        with idle_child():
            for sock in silent:
                assert await asyncio.to_thread(is_closed, sock)
                sock.close()


async def a_child_with_no_descriptor_to_spare() -> None:
    """The number of its only connection stays taken, or another file would get it."""
    async with running() as (_, group):
        with socket.create_server(("127.0.0.1", 0)) as server:
            # It is connected, and its Hello is never answered.
            address = f"tcp|127.0.0.1|{server.getsockname()[1]}"
            group.post(tofu.Message(OpCode.HELLO_REQUEST, headers={"~connect_to": address}))
            await until(lambda: transports(group))
            (transport,) = transports(group)
            number = transport.get_extra_info("socket").fileno()

            def in_child() -> None:
                sock = socket.socket(fileno=number)
                if sys.platform == "linux":  # whoever watches it is told that it has ended
                    assert select.select([sock], [], [], 0) == ([sock], [], [])
                with pytest.raises(OSError, match="not connected"):
                    sock.getpeername()
                with pytest.raises(OSError, match="Too many open files"):
                    os.dup(number)

            with nothing_to_spare():
                child = Child(in_child)
            assert child.wait() == 0
            transport.abort()


def transports(group: tofu.ChannelGroup) -> list[asyncio.BaseTransport]:
    connections = [m._connection for m in group._members.values() if isinstance(m, PostedChannel)]
    return [each.queue.transport for each in connections if each.queue.transport is not None]


@contextlib.contextmanager
def nothing_to_spare() -> Iterator[None]:
    """Inside, every descriptor that the process may have is taken."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken: list[int] = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, limits[1]))
    try:
        with contextlib.suppress(OSError):
            while True:
                taken.append(os.dup(0))
        yield
    finally:
        for number in taken:
            os.close(number)
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def acceptor_of(listener: tofu.Listener) -> SocketAcceptor:
    assert isinstance(listener._acceptor, SocketAcceptor)
    return listener._acceptor


def connect_to(listener: tofu.Listener) -> socket.socket:
    assert isinstance(listener.address, tofu.TcpAddress)
    return socket.create_connection((listener.address.host, listener.address.port))


async def an_address_that_is_wanted_again_before_a_child_begins() -> None:
    if sys.platform != "linux":
        return  # elsewhere it is free as soon as the child begins
    async with running() as (_, group):
        listener = await group.listen("tcp://127.0.0.1:0")
        with held_back():
            child = Child(lambda: None)
            await listener.aclose()
            again = await group.listen(listener.address)
            await pair(group, again)
        assert child.wait() == 0


CASES = {
    case.__name__: case
    for case in (
        what_a_child_does_with_channels_and_listeners,
        what_a_child_asks_of_an_engine,
        a_child_that_leaves_by_an_exception,
        a_child_with_an_engine_of_its_own,
        what_is_closed_while_a_child_lives,
        who_is_dropped_as_a_child_is_forked,
        a_child_with_no_descriptor_to_spare,
        an_address_that_is_wanted_again_before_a_child_begins,
    )
}


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=tofu.loop_factory(sys.argv[1])) as runner:
        runner.run(CASES[sys.argv[2]]())
