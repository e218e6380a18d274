"""``tofu doctor``: show what this machine supports, and test it."""

from __future__ import annotations

import asyncio
import os
import platform
import socket
import ssl
import sys
import tempfile
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from time import perf_counter
from typing import Final

import click
from rich.console import Console
from rich.table import Table

from .. import __version__
from ..core import WHY_PLAIN
from ..core.choosing import NOT_INSTALLED, PURE_IS_SET
from ..messaging.engine import Engine
from ..reactor.pollers import default_poller
from .errors import describe
from .measuring import milliseconds
from .running import run
from .serve import echo

_PACKAGES: Final = ("anyio", "click", "rich")
_FAST: Final = {"uvloop": sys.platform != "win32", "winloop": sys.platform == "win32"}
"""The loops of other packages, and whether they support this system."""

HAS_UDS: Final = hasattr(socket, "AF_UNIX")
HAS_ABSTRACT: Final = sys.platform == "linux"

_Finding = tuple[str, str, bool]
"""What was checked, the result, and whether it is good."""


@click.command()
def doctor() -> int:
    """Show what this machine supports, and test it.

    Shows versions, event loops, and the features of this platform. Tests each installed loop with a
    round trip over each transport that is available.

    Exit code: 0 if all tests passed, 1 if not.
    """
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    findings = [*_versions(), *_platform(), *_loops()]
    for name, text, good in findings:
        table.add_row(name, text if good else f"FAILED: {text}")
    Console(markup=False, highlight=False).print(table)
    return 0 if all(good for _, _, good in findings) else 1


def _versions() -> Iterator[_Finding]:
    yield "tofu_aio", f"{__version__}, in {Path(__file__).parent.parent}", True
    yield "Python", f"{platform.python_version()}, {platform.python_implementation()}", True
    yield _core(WHY_PLAIN)
    yield "system", platform.platform(), True
    for name in _PACKAGES:
        yield name, _installed(name) or "installed", True
    yield "TLS", ssl.OPENSSL_VERSION, True


def _core(why_plain: str) -> _Finding:
    """Which core runs. Plain Python is good, unless a compiled core is there and does not load."""
    if not why_plain:
        return "core", "compiled", True
    good = why_plain in {PURE_IS_SET, NOT_INSTALLED}
    return "core", f"plain Python: {why_plain}", good


def _platform() -> Iterator[_Finding]:
    try:
        poller = default_poller()
    except OSError as error:
        yield "poller", describe(error), False
    else:
        poller.close()
        yield "poller", type(poller).__name__.removesuffix("Poller").lower(), True
    yield "Unix sockets", "yes" if HAS_UDS else "no: this Python does not support them here", True
    yield "abstract names", "yes" if HAS_ABSTRACT else "no: only Linux supports them", True
    dual = socket.has_dualstack_ipv6()
    yield "IPv6", "yes, one socket serves IPv4 too" if dual else "not on one socket with IPv4", True
    if sys.platform != "win32":
        import resource  # noqa: PLC0415 - not available on Windows

        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        yield "open files", f"{soft}, can be raised to {hard} (ulimit -n)", True


def _loops() -> Iterator[_Finding]:
    for name in ("reactor", "asyncio"):
        yield _test_loop(name, "")
    for name, supported in _FAST.items():
        if find_spec(name) is not None:
            yield _test_loop(name, f"{_installed(name)}, ")
        else:
            cure = "pip install 'tofu-aio[fast]'" if supported else "not available for this system"
            yield f"loop {name}", f"not installed: {cure}", True


def _test_loop(loop: str, prefix: str) -> _Finding:
    """Test one loop over all transports."""
    results = []
    with tempfile.TemporaryDirectory(prefix="tofu") as folder:
        for transport, address in _addresses(folder).items():
            try:
                seconds = run(_round_trip(address), loop)
            except Exception as error:  # any error is a finding
                return f"loop {loop}", f"{transport}: {describe(error)}", False
            results.append(f"{transport} {milliseconds(seconds)}")
    return f"loop {loop}", f"{prefix}round trips: {', '.join(results)}", True


def _addresses(folder: str) -> dict[str, str]:
    """An address for each transport that this system supports."""
    addresses = {"TCP": "tcp://127.0.0.1:0"}
    if HAS_UDS:
        addresses["Unix"] = f"uds://{folder}/s"
    if HAS_ABSTRACT:
        addresses["abstract"] = f"uds://@tofu-doctor-{os.getpid()}"
    return addresses


async def _round_trip(address: str) -> float:
    """Measure a request and its response, in seconds, after a first one has warmed up."""
    async with Engine() as engine, engine.create_group() as group:
        listener = await group.listen(address)
        client, server = await asyncio.gather(
            group.connect(listener.address, timeout=5), listener.accept()
        )
        echoing = asyncio.create_task(echo(server))
        (await client.request(b"warm", timeout=5)).release()
        begin = perf_counter()
        (await client.request(b"tofu", timeout=5)).release()
        seconds = perf_counter() - begin
        await client.aclose()
        await echoing
        return seconds


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
