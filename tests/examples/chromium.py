"""A headless Chromium that is driven over its debugging protocol."""

from __future__ import annotations

import asyncio
import itertools
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.messaging.peers import until

_NAMES = ("chromium", "chromium-browser", "google-chrome")
_FOUND = next(filter(None, map(shutil.which, _NAMES)), None)

needs_chromium = pytest.mark.skipif(
    _FOUND is None, reason="there is no browser: install chromium, for example with apt or brew"
)


class Page:
    """A page in the browser."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._ids = itertools.count(1)

    async def _command(self, method: str, **parameters: object) -> dict[str, Any]:
        number = next(self._ids)
        await self._socket.send_json({"id": number, "method": method, "params": parameters})
        while True:
            answer = await self._socket.receive_json()
            if answer.get("id") == number:
                return dict(answer["result"])

    async def open(self, url: str) -> None:
        await self._command("Page.navigate", url=url)

    async def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression."""
        answer = await self._command(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        return answer["result"].get("value")

    async def becomes(self, expression: str) -> None:
        """Wait until an expression is true."""
        again = f"const look = () => {expression} ? done() : setTimeout(look, 10)"
        try:
            async with asyncio.timeout(20):
                await self.evaluate(f"new Promise(done => {{ {again}; look() }})")
        except TimeoutError:
            pytest.fail(f"not true after 20 s: {expression}")


@asynccontextmanager
async def browser(folder: Path) -> AsyncIterator[Page]:
    """A browser with one page."""
    assert _FOUND is not None
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0"]
    process = await asyncio.create_subprocess_exec(
        *[_FOUND, *options, f"--user-data-dir={folder}", "about:blank"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        told = folder / "DevToolsActivePort"
        await until(lambda: told.exists() and "\n" in told.read_text(), "for the browser")
        port = told.read_text().splitlines()[0]
        async with aiohttp.ClientSession() as session:
            async with session.get(f"http://127.0.0.1:{port}/json") as response:
                pages = [each for each in await response.json() if each["type"] == "page"]
            async with session.ws_connect(pages[0]["webSocketDebuggerUrl"]) as socket:
                yield Page(socket)
    finally:
        process.terminate()
        await process.wait()
