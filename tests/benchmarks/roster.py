"""Who takes part: the contenders, what each needs, and who is left out, and why."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec

import tofu_aio as tofu
from tests.benchmarks import processes

LOOPS = ("reactor", "asyncio", "uvloop")


@dataclass(frozen=True)
class Contender:
    """One who echoes.

    Attributes:
        title: as tables and plots call it.
        package: what it is called on PyPI; "" if it needs none.
        imported: what is imported of it.
        plain: the contender that is the same program on plain Python, if this one runs on the
            compiled core; "" for all others, which never run on it.
    """

    title: str
    package: str = ""
    imported: str = ""
    plain: str = ""

    @property
    def compiled(self) -> bool:
        """Whether it runs on the compiled core."""
        return bool(self.plain)

    def missing(self) -> str:
        """Why it cannot run; "" if it can."""
        if self.compiled and (why := processes.why_plain()):
            return why
        if not self.package or find_spec(self.imported):
            return ""
        return f"{self.package} is not installed; it is in the extra bench"

    def version(self) -> str:
        """What will be measured."""
        return version(self.package) if self.package else ""


CONTENDERS = {
    "bare": Contender("bare protocol"),
    "sketch": Contender("a sketch, no promises"),
    "sketch_pool": Contender("a sketch, our receiving"),
    "tofu": Contender("tofu_aio, plain"),
    "tofu_compiled": Contender("tofu_aio, compiled", plain="tofu"),
    "requests": Contender("tofu_aio, request(), plain"),
    "requests_compiled": Contender("tofu_aio, request(), compiled", plain="requests"),
    "sketch_requests": Contender("a sketch, requests"),
    "streams": Contender("asyncio streams"),
    "picows": Contender("picows", "picows", "picows"),
    "websockets": Contender("websockets", "websockets", "websockets"),
    "pyzmq": Contender("pyzmq", "pyzmq", "zmq"),
    "pyzmq_drained": Contender("pyzmq, drained", "pyzmq", "zmq"),
    "pynng": Contender("pynng", "pynng", "pynng"),
    "pynng_drained": Contender("pynng, drained", "pynng", "pynng"),
    "grpc": Contender("grpc.aio", "grpcio", "grpc"),
    "calls": Contender("tofu_aio, client.call(), plain"),
    "calls_compiled": Contender("tofu_aio, client.call(), compiled", plain="calls"),
    "grpc_unary": Contender("grpc.aio, unary calls", "grpcio", "grpc"),
    "nats": Contender("nats-py, requests", "nats-py", "nats"),
}
"""By the names of their modules, or others for those on the compiled core; the first is what the
others are compared with."""


@dataclass(frozen=True)
class Field:
    """Who runs.

    Attributes:
        contenders: names of them.
        loops: names of them.
        left_out: a line for each that was asked for and cannot run.
    """

    contenders: list[str]
    loops: list[str]
    left_out: list[str]


def choose(contenders: Iterable[str], loops: Iterable[str]) -> Field:
    """Those of the ones asked for that can run here."""
    field = Field([], [], [])
    for name in contenders:
        if why := CONTENDERS[name].missing():
            field.left_out.append(f"{CONTENDERS[name].title}: {why}")
        else:
            field.contenders.append(name)
    for loop in loops:
        try:
            tofu.loop_factory(loop)
        except ImportError as error:
            field.left_out.append(f"the loop {loop}: {error}")
        else:
            field.loops.append(loop)
    return field
