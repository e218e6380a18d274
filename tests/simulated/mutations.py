"""Break the engine in one way after another, and see which check detects it, and at which seed.

``python -m tests.simulated.mutations`` prints the table of ``docs/design/simulation.md``. Each
change is made in a copy of the package; this one is not changed.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

from tests.breaking import ENVIRONMENT, Mutation, broken_copy

SEEDS = 2000
_ERROR = re.compile(r"^[| ]*(?:\w+\.)*((?!ExceptionGroup)[A-Z]\w+: .*)$", re.MULTILINE)


MUTATIONS = [
    Mutation(
        "the channel that has waited shortest is served first",
        "reader = pool.waiters.first\n",
        "reader = next(reversed(pool.waiters))\n",
    ),
    Mutation(
        "new data takes permits although channels wait",
        "        if pool.waiters:\n            return 0\n        free, held",
        "        free, held",
    ),
    Mutation(
        "the permit of an incomplete message is not given back",
        "            self.arriving.message.release()",
        "            self.arriving.message._permit = None",
    ),
    Mutation(
        "the permits of a lost channel's queue are not given back",
        "        for permit in carried:\n            permit.release()",
        "        del carried",
    ),
    Mutation(
        "a permit is given back twice",
        "        permit = self._take_permit()\n        if permit is not None:\n"
        "            permit.release()",
        "        permit = self._take_permit()\n        if permit is not None:\n"
        "            permit.release(), permit.release()",
    ),
    Mutation(
        "a long message takes one permit",
        "return price if price < self.size else self.size",
        "return 1",
    ),
    Mutation(
        "a channel that has its share is not looked at again",
        "range(min(len(parked), _FEW))",
        "range(0)",
    ),
    Mutation(
        "reading is never resumed",
        "transport.resume_reading()\n            else:",
        "pass\n            else:",
    ),
    Mutation(
        "reading is never suspended",
        "                transport.pause_reading()\n        if self.suspended",
        "                pass\n        if self.suspended",
    ),
    Mutation(
        "data that arrives while a channel waits is dropped",
        "self.waiting = self.waiting[self._at :] + bytes(data)",
        "self.waiting = self.waiting[self._at :]",
    ),
    Mutation(
        "data that needs a permit is dropped when the channel begins to wait",
        "self.waiting, self._at = data, at",
        'self.waiting, self._at = b"", 0',
    ),
    Mutation(
        "waiting channels are not told that a permit came back",
        "written out here to save a call.\n"
        "                if pool.suspended:\n                    pool._on_release()",
        "no call.",
    ),
    Mutation(
        "a full transport does not stop senders",
        "        self.queue.pause()\n",
        "        pass\n",
    ),
    Mutation(
        "senders are not told that there is room again",
        "        self.queue.flush()\n        self.queue.admit()",
        "        self.queue.flush()",
    ),
    Mutation(
        "a cancelled sender does not let the next one send",
        "                queue.admit_soon()",
        "                pass",
    ),
    Mutation(
        "the close is reported twice",
        "                connection.sink.closed()\n",
        "                connection.sink.closed()\n" * 2,
    ),
    Mutation(
        "the end is reported several times",
        "            self.reported = True\n",
        "",
    ),
    Mutation(
        "the end is reported before messages that wait for a permit",
        "if connection.end is None or not connection.idle or self.unread is not None:",
        "if connection.end is None:",
    ),
    Mutation(
        "unread data of a lost connection is not read",
        "closing.unread = unread_of(transport)",
        "closing.unread = None",
    ),
    Mutation(
        "channel_closed is posted twice",
        "[notification(Status.CHANNEL_CLOSED, number, self._hello_id)]",
        "[notification(Status.CHANNEL_CLOSED, number, self._hello_id) for _ in 'ab']",
    ),
    Mutation(
        "a message that comes back may have the status channel_closed",
        "Status.SEND_FAILED if closed else error.status",
        "error.status",
    ),
    Mutation(
        "a Hello that was given up comes back again when connecting fails",
        "            channel.give_up(error)\n",
        "            channel.give_up(error)\n"
        "            self._mailbox.deliver([returned(hello, error.status, connection.number)])\n",
    ),
    Mutation(
        "channel_closed does not wait for messages that other threads have posted",
        "waits for other threads\n        self._follow(self._notify_closed)",
        "waits for other threads\n        self._notify_closed()",
    ),
    Mutation(
        "another thread may post after channel_closed",
        "        if self._closed_notified:\n",
        "        if False:\n",
    ),
    Mutation(
        "an answer to a Bye is waited for without end",
        "await asyncio.wait([self.done], timeout=BYE_TIMEOUT)",
        "await asyncio.wait([self.done])",
    ),
    Mutation(
        "heartbeats go on after the socket was closed",
        "            self.gate.heartbeats.leave(self, self.heartbeat)",
        "            pass",
    ),
    Mutation(
        "a response goes to the last request",
        "response = requests.pop(message_id, None)\n            if response is not None:",
        "response = requests.popitem()[1] if requests else None\n"
        "            if response is not None:",
    ),
]

SERVICE_MUTATIONS = [
    Mutation(
        "a call that may have been carried out is sent again",
        "not (idempotent or not failure.begun)",
        "False",
    ),
    Mutation(
        "a call is carried out twice",
        "result = await chained(middleware, execution.innermost)(call)",
        "await execution.innermost(call)\n"
        "    result = await chained(middleware, execution.innermost)(call)",
    ),
    Mutation(
        "an item of a stream is lost",
        "body = codecs.encode_item(content_type, item)\n                await",
        "body = codecs.encode_item(content_type, item)\n"
        "                if len(body) % 7 == 0:\n                    continue\n"
        "                await",
    ),
    Mutation(
        "a stream that its handler has broken off ends like a whole one",
        "            await exchange.finish(body, headers, status=error.status)",
        "            await exchange.finish(b'')",
    ),
    Mutation(
        "a slot is not given back",
        "    if slot is not None:\n        slot.release()",
        "    if slot is not None:\n        pass",
    ),
    Mutation(
        "every answer has the error code of a fault",
        "headers = {CODE: error.code}",
        "headers = {CODE: INTERNAL}",
    ),
]
"""Ways to break services and clients, which ``tests/simulated/calls.py`` is to detect."""


def main() -> int:
    """Try each; the exit code is 1 if one was not detected."""
    known, words = [*MUTATIONS, *SERVICE_MUTATIONS], sys.argv[1:]
    chosen = [m for m in known if not words or any(word in m.what for word in words)]
    found_all = True
    print("| what is broken | seed | what is said |\n| --- | --- | --- |", flush=True)
    for mutation in chosen:
        seed, said = tried(mutation)
        found_all = found_all and seed is not None
        print(f"| {mutation.what} | {seed} | {said} |", flush=True)
    return not found_all


def tried(mutation: Mutation, seeds: int = SEEDS) -> tuple[int | None, str]:
    """Return the first seed that detects it, and the error's text."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        broken_copy(mutation, copy, "tofu_aio", "tests/simulated", "tests/breaking.py")
        run = subprocess.run(
            [sys.executable, "-m", "tests.simulated", "--seeds", str(seeds)],
            cwd=copy,
            env=ENVIRONMENT,
            capture_output=True,
            text=True,
            check=False,
        )
    failed = re.search(r"^seed (\d+) failed", run.stdout, re.MULTILINE)
    if failed is None:
        return None, (run.stdout + run.stderr).strip().rpartition("\n")[2]
    errors = _ERROR.findall(run.stdout)
    return int(failed[1]), textwrap.shorten(errors[-1], 100, placeholder=" ...") if errors else "?"


if __name__ == "__main__":
    sys.exit(main())
