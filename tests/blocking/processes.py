"""Python processes that the tests start."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

import tofu_aio as tofu
from tests.blocking.conftest import PATIENCE

BEGINNING = """
import asyncio, logging, os, signal, sys, threading, time
import tofu_aio as tofu
from tofu_aio import blocking

address = sys.argv[1]
# In development mode asyncio warns of callbacks that took 0.1 s, as any may on a busy machine.
logging.getLogger("asyncio").setLevel(logging.ERROR)
"""


posix = pytest.mark.skipif(sys.platform == "win32", reason="Windows has neither forks nor SIGINT")


@contextmanager
def process(address: tofu.Address, code: str) -> Iterator[subprocess.Popen[str]]:
    """A Python process that runs the code, with the address of the test's listener as argument."""
    program = BEGINNING + textwrap.dedent(code)
    running = subprocess.Popen(
        [sys.executable, "-X", "dev", "-W", "error", "-c", program, str(address)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with running:
        try:
            yield running
        finally:
            running.kill()


def finished(running: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Wait for the process; return its exit code and its output."""
    out, err = running.communicate(timeout=PATIENCE * 2)
    return running.returncode, out, err
