"""The hot path through mypyc, beside the plain Python that it was made from, in one run.

``nox -s compiled`` needs a C compiler. It compiles a copy of the package in a temporary folder,
with the few changes that the compiler asks for, and prints what each step of an echo takes, and
echoes between processes.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console

from tests.benchmarks import processes, rounds, tables
from tests.benchmarks.cases import MANY, ONE, SOME
from tests.benchmarks.results import Results, Subject
from tests.benchmarks.rounds import Job

HOT = {
    "protocol": (
        "binary_header",
        "pool",
        "account",
        "message",
        "arriving",
        "withdrawal",
        "exemptions",
        "undecoded",
        "decoder",
    ),
    "messaging": (
        "delivery/wake_up",
        "delivery/mailbox",
        "delivery/pending_requests",
        "delivery/dispatcher",
        "connection/frame_queue",
        "connection/send_queue",
        "connection/connection",
        "channel",
    ),
}
"""What is compiled. Others subclass a builtin or an Enum, or are classes that these inherit from,
which the compiler does not take; or they do nothing for a message."""

CHANGES = {
    "protocol/message.py": {
        # Else neither a copy nor a pickle can be made; and it is in no cycle.
        "class Message:": "@mypyc_attr(serializable=True, acyclic=True)\nclass Message:",
        "TYPE_CHECKING, Final": "TYPE_CHECKING, Any, Final",
        "import struct\n": "import struct\nfrom mypy_extensions import mypyc_attr\n",
        # A view for a moment, in the decoder, and whatever a user sets: checked when it is sent.
        "    body: bytes\n": "    body: Any\n",
        # object.__new__ is refused for such a class but in a __new__, with __init__'s parameters.
        "    _permit: Permit | None": """    def __new__(cls, op_code: OpCode = OpCode.SIGNAL,
        body: bytes | bytearray | memoryview = b"", headers: HeadersLike | None = None,
        message_id: int = 0, more: bool = False) -> Self:
        return object.__new__(cls)

    _permit: Permit | None""",
        'set(Message.__slots__) - {"__weakref__", "_permit"}': '{"_proto", "status", "message_id", '
        '"channel_number", "headers", "body"}',
        # A call through a Protocol is looked up by name.
        "from .status": "from .account import Account\nfrom .status",
        "            permit.release()": "            if isinstance(permit, Account):\n"
        "                permit.release()\n            else:\n                permit.release()",
    },
    "protocol/decoder.py": {
        "_new: Final = object.__new__": "_VERDICTS: Final = VERDICTS",
        "_new(Message)": "Message.__new__(Message)",
        # A Final of the module itself is found faster than another's.
        "_unpack: Final": "_STATUSES: Final = STATUSES\n_EMPTY: Final = EMPTY_HEADERS\n"
        "_unpack: Final",
        "= VERDICTS[": "= _VERDICTS[",
        "= STATUSES[": "= _STATUSES[",
        "headers = EMPTY_HEADERS": "headers = _EMPTY",
        "= data[body_at:stop]": "= data[body_at:stop] if isinstance(data, bytes) else "
        "data[body_at:stop]",
    },
    # A parameter of a coroutine cannot be deleted, so a request lives as long as its reply waits.
    "messaging/channel.py": {"        del request  #": "        #"},
}
"""What the compiler needs to be told otherwise, and what it is faster with."""

PLAIN, COMPILED = "plain", "compiled"


def changed(name: str) -> str:
    """A module as the compiler gets it."""
    text = (processes.ROOT / "tofu_aio" / name).read_text(encoding="utf-8")
    for old, new in CHANGES[name].items():
        assert old in text, f"{name} has changed: there is no {old!r}"
        text = text.replace(old, new)
    return text


def compile_copy(folder: Path) -> None:
    """Make the package in that folder, its hot path compiled.

    Raises:
        CalledProcessError: it could not be.
    """
    package = folder / "tofu_aio"
    shutil.copytree(processes.ROOT / "tofu_aio", package)
    for name in CHANGES:
        (package / name).write_text(changed(name), encoding="utf-8")
    modules = [f"tofu_aio/{layer}/{name}.py" for layer, names in HOT.items() for name in names]
    command = [sys.executable, "-m", "mypyc", *modules]
    subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)


def plan(trees: dict[str, Path], loops: list[str], seconds: float) -> Iterator[Job]:
    """Each case in both trees, one after the other."""
    for case in (ONE, SOME, MANY):
        for loop in loops:
            for which, tree in trees.items():
                load = case.load("tofu", loop, seconds)
                yield Job(Subject(case.title, which, loop), load, tree)


def main() -> None:
    """Compile, measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.4, help="of each measurement")
    parser.add_argument("--loops", nargs="+", default=["asyncio", "uvloop"])
    options = parser.parse_args()
    results, console = Results(), Console()
    with TemporaryDirectory(prefix="tofu-compiled-") as folder:
        trees = {PLAIN: processes.ROOT, COMPILED: Path(folder).resolve()}
        compile_copy(trees[COMPILED])
        for _ in range(options.rounds):
            for which, tree in trees.items():
                told, _ = processes.start("compiled_steps", which, tree=tree).communicate()
                for step, cost in json.loads(told).items():
                    results.add(Subject(step, which, ""), {"rate": 1e9 / cost})
        jobs = list(plan(trees, options.loops, options.seconds))
        rounds.run(jobs, options.rounds, console, results)
    rows = []
    for case, which, loop in results.rounds:
        if which == PLAIN:
            pair = [Subject(case, other, loop) for other in trees]
            rates = [tables.whole(results.spread(subject, "rate")) for subject in pair]
            rows.append([case, loop, *rates, tables.range_of(results.ratio("rate", *pair[::-1]))])
    columns = ["messages a second", "loop", "plain", "compiled", "compiled / plain"]
    console.print(tables.table("The hot path through mypyc", columns, rows))


if __name__ == "__main__":
    main()
