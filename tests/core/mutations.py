"""Mistakes planted into the compiled core, each of which the tests beside this file find.

``python -m tests.core.mutations`` makes each of them in a copy and compiles that, which takes a
while; with words, only those whose name has one of them.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Final, NamedTuple

from tests.core.building import FOLDER, compile_in, copied, run_tests


class Mistake(NamedTuple):
    """What is replaced in a file of the core, and the tests that go red."""

    name: str
    file: str
    old: str
    new: str
    tests: str
    leaks: bool = False  # they go red only when they are repeated, by leak_hunting


MISTAKES: Final = (
    Mistake(
        "a portion may have one message more",
        "decoder.pxi",
        "quota = left = budget if budget < portion else portion",
        "quota = left = budget if budget < portion else portion + 1",
        "test_decoder.py",
    ),
    Mistake(
        "exempt messages are not counted",
        "decoder.pxi",
        "            gratis -= 1\n",
        "            pass\n",
        "test_decoder.py",
    ),
    Mistake(
        "the reserve counts as a permit",
        "decoder.pxi",
        "budget -= took - 1",
        "budget -= 1",
        "test_decoder.py",
    ),
    Mistake(
        "a long message takes one permit",
        "decoder.pxi",
        "if left < 1 or stop - at > unit:",
        "if left < 1:",
        "test_decoder.py",
    ),
    Mistake(
        "what is lent is not given back",
        "pool.pxi",
        "        add_one(pool.to_lend)\n",
        "        pass\n",
        "test_decoder.py",
    ),
    Mistake(
        "a short body loses its length",
        "queue.pxi",
        "body_len if body_len < SHORT else 0",
        "body_len if body_len <= SHORT else 0",
        "test_send_queue.py",
    ),
    Mistake(
        "frames are not counted",
        "queue.pxi",
        "    self._nbytes += 16 + headers_len + body_len\n",
        "    self._nbytes += 16 + body_len\n",
        "test_send_queue.py",
    ),
    Mistake(
        "a cancelled request is not given up",
        "channel.pxi",
        "channel._dispatcher.pending.give_up(message_id, response)",
        "pass",
        "test_awaitables.py",
    ),
    Mistake(
        "only the first callback is called",
        "waiter.pxi",
        "self.others is not None",
        "self.others is None",
        "test_waiter.py",
    ),
    Mistake(
        "a task is told that what was cancelled has a result",
        "waiter.pxi",
        "DONE if progress == FINISHED else self",
        "DONE",
        "test_waiter.py",
    ),
    Mistake(
        "the end of an iteration is an error",
        "channel.pxi",
        "return StopAsyncIteration()",
        "return error",
        "test_awaitables.py",
    ),
    Mistake(
        "an answered request may be answered again",
        "channel.pxi",
        "                message._proto = ANSWERED\n",
        "                pass\n",
        "test_channel.py",
    ),
    Mistake(
        "a finalized message keeps its permit",
        "message.pxi",
        "        release(self)  # nothing",
        "        pass  # nothing",
        "test_messages.py",
    ),
    Mistake(
        "a mailbox forgets what came first",
        "inbox.pxi",
        "self.first > 64 and 2 * self.first > len(self.items)",
        "self.first > 64 and self.items.clear() is None",
        "test_delivery.py",
    ),
    Mistake(
        "each body is kept",
        "decoder.pxi",
        "        append(batch, message)\n",
        "        append(batch, message)\n        plain.setdefault(0, []).append(message.body)\n",
        "test_decoder.py",
        leaks=True,
    ),
    Mistake(
        "what is awaited stays alive",
        "channel.pxi",
        "            Py_DECREF(result)\n",
        "",
        "test_awaitables.py",
        leaks=True,
    ),
    Mistake(
        "a message that is kept counts for its type",
        "messages.h",
        "        if (tofu_keep(&tofu_messages, self))\n            return;\n",
        "        if (tofu_keep(&tofu_messages, self)) {\n            Py_INCREF(type);\n"
        "            return;\n        }\n",
        "test_messages.py",
        leaks=True,
    ),
)


def plant(mistake: Mistake, copy: Path) -> None:
    """Make the mistake in a copy.

    Raises:
        ValueError: what is to be replaced is not there, or more than once.
    """
    path = copy / FOLDER / mistake.file
    source = path.read_text(encoding="utf-8")
    if source.count(mistake.old) != 1:
        raise ValueError(f"{mistake.name}: {mistake.old!r} is not in {mistake.file} once")
    path.write_text(source.replace(mistake.old, mistake.new), encoding="utf-8")


def is_found(mistake: Mistake) -> bool:
    """Whether the tests go red."""
    with tempfile.TemporaryDirectory() as folder:
        copy = copied(Path(folder))
        plant(mistake, copy)
        compile_in(copy)
        arguments, environment = ["-x", f"tests/core/{mistake.tests}"], {}
        if mistake.leaks:
            arguments += ["-p", "tests.core.leak_hunting"]
            environment["TOFU_CORE_EXAMPLES"] = "100"  # or they take too long to be repeated
        ended = run_tests(copy, *arguments, **environment)
    return ended.returncode != 0


def main(words: list[str]) -> int:
    """Print whether each mistake is found."""
    missed = 0
    for mistake in MISTAKES:
        if words and not any(word in mistake.name for word in words):
            continue
        found = is_found(mistake)
        missed += not found
        print("found " if found else "MISSED", mistake.name, flush=True)
    return missed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
