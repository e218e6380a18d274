"""The blobs of the examples: any size in bounded memory, whoever gives up or is killed."""

from __future__ import annotations

import asyncio
import hashlib
import random
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TypeVar

import aiohttp
import pytest

from tests.cli.processes import Running, spawn
from tests.messaging.peers import until as soon

from .programs import (
    EXAMPLES,
    Programs,
    kill,
    peak_memory,
    posix,
    programs,
    serving,
    terminate,
    until,
)

pytest.importorskip("fastapi", reason="the web application needs it: pip install fastapi")

pytestmark = posix

T = TypeVar("T")

PIECE = random.Random(1).randbytes(1_000_000)
PIECES = 100
WHOLE = hashlib.sha256(PIECE * PIECES).hexdigest()

ROOM = 50_000_000
"""Bytes that a process may need for blobs of any size: its pool has 8 MiB, and there are buffers of
HTTP connections and files."""

SLOW = 100
"""Clients that do not read."""

EACH = 1_200_000
"""Bytes that one of them may cost: what its channel may receive while the pool is exhausted, and
the buffer of its HTTP connection."""

Session = aiohttp.ClientSession


class Site:
    """The web application and its store."""

    def __init__(self, started: Programs, monkeypatch: pytest.MonkeyPatch) -> None:
        self._started = started
        self.address = started.address("store")
        self.folder = started.folder / "blobs"
        self.folder.mkdir()
        monkeypatch.setenv("STORE", self.address)
        self.store = self.start_store()
        self.socket = started.folder / "web"
        options = ["--loop", "tofu_aio:new_event_loop", "--log-level", "warning"]
        where = ["--uds", str(self.socket), "--app-dir", str(EXAMPLES / "blobs")]
        self.web = started.keep(
            spawn("-m", "uvicorn", *options, *where, "web:app", folder=started.folder)
        )
        until(lambda: self.do(health) == 200, "for the web application")

    def start_store(self) -> Running:
        store = self._started.start("blobs/store.py", str(self.folder))
        until(lambda: serving(self.address), "for the store")
        return store

    def do(self, scenario: Callable[[Session], Awaitable[T]]) -> T:
        """Be a client of the web application."""

        async def run() -> T:
            connector = aiohttp.UnixConnector(str(self.socket), limit=0)
            async with Session("http://site", connector=connector) as session:
                return await scenario(session)

        return asyncio.run(run())

    def leave(self) -> None:
        """End both in order."""
        code, _, told = terminate(self.web)
        assert code in {0, -signal.SIGTERM}  # uvicorn shuts down, and then ends itself with it
        assert told == ""
        assert terminate(self.store) == (0, "", "")
        assert not self.has_parts()

    def has_parts(self) -> bool:
        """Whether the store has files of uploads that are not complete."""
        return any(self.folder.glob("*.part"))


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    with programs(tmp_path) as started:
        yield Site(started, monkeypatch)


async def health(session: Session) -> int:
    try:
        async with session.get("/health") as response:
            return response.status
    except aiohttp.ClientConnectorError:
        return 0


async def pieces(count: int) -> AsyncIterator[bytes]:
    for _ in range(count):
        yield PIECE


async def put(session: Session, name: str, count: int = PIECES) -> tuple[int, dict[str, object]]:
    async with session.put(f"/blobs/{name}", data=pieces(count)) as response:
        return response.status, await response.json()


async def get(session: Session, name: str) -> str:
    """The hash of a blob."""
    digest = hashlib.sha256()
    async with session.get(f"/blobs/{name}") as response:
        assert response.status == 200
        async for chunk in response.content.iter_chunked(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def test_blobs_go_through_in_bounded_memory(site: Site) -> None:
    before = [peak_memory(process) for process in (site.web, site.store)]

    async def scenario(session: Session) -> None:
        name = "a name, with blanks and \u00fcml\u00e4uts"
        stored = {"name": name, "size": PIECES * len(PIECE), "sha256": WHOLE}
        assert await put(session, name) == (200, stored)
        assert await get(session, name) == WHOLE
        async with session.get("/blobs/another") as response:
            assert response.status == 404
            assert await response.json() == {"detail": "there is no blob 'another'"}

    site.do(scenario)
    for process, memory in zip((site.web, site.store), before, strict=True):
        assert peak_memory(process) - memory < ROOM
    site.leave()


def test_clients_may_give_up(site: Site) -> None:
    async def scenario(session: Session) -> None:
        assert (await put(session, "blob"))[0] == 200
        for _ in range(5):
            async with session.get("/blobs/blob") as response:
                await response.content.readexactly(1_000_000)
                response.close()
        sending = asyncio.Event()

        async def unfinished() -> AsyncIterator[bytes]:
            yield PIECE
            sending.set()
            await asyncio.Event().wait()

        uploading = asyncio.create_task(session.put("/blobs/half", data=unfinished()))
        await sending.wait()
        await soon(site.has_parts, "for the store to begin")
        uploading.cancel()
        await soon(lambda: not site.has_parts(), "for the store to give up")
        async with session.get("/blobs/half") as response:
            assert response.status == 404
        assert await get(session, "blob") == WHOLE

    site.do(scenario)
    site.leave()


def test_slow_clients_delay_nobody(site: Site) -> None:
    before = peak_memory(site.web)

    async def scenario(session: Session) -> None:
        assert (await put(session, "blob"))[0] == 200
        async with AsyncExitStack() as slow:
            for _ in range(SLOW):
                response = await slow.enter_async_context(session.get("/blobs/blob"))
                assert response.status == 200  # and nothing of it is read
            assert await health(session) == 200
            assert await get(session, "blob") == WHOLE
            assert (await put(session, "other", 10))[0] == 200

    site.do(scenario)
    assert peak_memory(site.web) - before < ROOM + SLOW * EACH
    site.leave()


def test_the_store_is_killed_and_comes_back(site: Site) -> None:
    async def broken(session: Session) -> None:
        assert (await put(session, "blob"))[0] == 200

        async def parts() -> AsyncIterator[bytes]:
            yield PIECE
            await soon(site.has_parts, "for the store to begin")
            kill(site.store)
            while True:
                yield PIECE

        async with session.get("/blobs/blob") as download:
            await download.content.readexactly(1_000_000)
            async with session.put("/blobs/half", data=parts()) as upload:
                assert upload.status == 503
                assert "the store does not answer" in await upload.text()
            with pytest.raises(aiohttp.ClientPayloadError):
                await download.read()
        assert await health(session) == 503

    async def whole(session: Session) -> None:
        assert await get(session, "blob") == WHOLE
        async with session.get("/blobs/half") as response:
            assert response.status == 404

    site.do(broken)
    site.store = site.start_store()
    until(lambda: site.do(health) == 200, "for the web application to find the store")
    site.do(whole)
    assert not site.has_parts()
    kill(site.web)  # its log has the download that broke off
    assert terminate(site.store) == (0, "", "")


def test_a_stopped_store_is_reported(site: Site) -> None:
    site.store.process.send_signal(signal.SIGSTOP)
    code, answer = site.do(lambda session: put(session, "blob", 0))
    assert (code, str(answer["detail"])[:25]) == (503, "the store does not answer")
    assert site.do(health) == 503
    site.store.process.send_signal(signal.SIGCONT)
    until(lambda: site.do(health) == 200, "for the store to go on")
    site.leave()


def test_a_store_that_is_terminated_ends_its_streams(site: Site) -> None:
    async def scenario(session: Session) -> None:
        assert (await put(session, "blob"))[0] == 200
        async with session.get("/blobs/blob") as response:
            await response.content.readexactly(1_000_000)
            site.store.process.send_signal(signal.SIGTERM)
            rest = await response.read()
        assert len(rest) == (PIECES - 1) * len(PIECE)

    site.do(scenario)
    assert site.store.finish() == (0, "", "")
    assert site.do(health) == 503
    site.store = site.start_store()
    site.leave()
