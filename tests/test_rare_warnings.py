"""Events that could go on without end are logged at a limited rate."""

from __future__ import annotations

import contextlib
import logging

import pytest

import tofu_aio as tofu
from tests.messaging.peers import RawPeer, admission_of, hello, turns
from tofu_aio import rare_warnings
from tofu_aio.messaging import numbers
from tofu_aio.messaging.accepting import admission as admission_module
from tofu_aio.rare_warnings import RareWarnings

NEVER = 3600.0


def test_what_never_ends_is_told_at_a_limited_rate_with_how_often_it_was(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(rare_warnings, "WARNINGS_QUIET", 10.0)
    clock = [0.0]
    warnings = RareWarnings(logging.getLogger("tofu_aio.test"), lambda: clock[0])

    def told() -> list[str]:
        lines = [record.getMessage() for record in caplog.records]
        caplog.clear()
        return lines

    warnings.warn("this", "this happened")
    warnings.warn("that", "that happened")
    assert told() == ["this happened", "that happened"], "each kind for itself"
    for clock[0] in (1.0, 9.0, 9.9):
        warnings.warn("this", "this happened")
        assert told() == []
    clock[0] = 10.0
    warnings.warn("this", "this happened again")
    assert told() == ["this happened again (3 more like this since the last warning)"]
    clock[0] = 30.0
    warnings.warn("this", "this happened later")
    assert told() == ["this happened later"]


@pytest.mark.parametrize("kind", ["crowd", "address", "number"])
async def test_refusals_that_never_end_are_told_again_and_again(
    group: tofu.ChannelGroup,
    engine: tofu.Engine,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    kind: str,
) -> None:
    """But not each of them; and each is counted."""
    monkeypatch.setattr(rare_warnings, "WARNINGS_QUIET", NEVER)
    most = 1 if kind == "address" else None
    async with await group.listen(
        "tcp://127.0.0.1:0", max_channels=1, max_connections_per_address=most
    ) as listener:
        if kind == "crowd":
            monkeypatch.setattr(admission_module, "WAITING_CONNECTIONS", 0)
        elif kind == "number":
            monkeypatch.setattr(numbers, "MAX_CHANNEL", 1)
        else:
            counts = admission_of(listener)._counts
            counts.begin(tofu.TcpAddress("127.0.0.1", 1))

        async def refused() -> None:
            with await RawPeer.connect(listener.address) as peer:
                with contextlib.suppress(ConnectionError):
                    await peer.send(hello())
                assert await peer.end() == b""

        for _ in range(3):
            await refused()
        assert caplog.text.count("a connection was refused") == 1
        monkeypatch.setattr(rare_warnings, "WARNINGS_QUIET", 0.0)
        await refused()
        assert caplog.text.count("a connection was refused") == 2
        assert "(2 more like this since the last warning)" in caplog.text
        assert engine.statistics().refused == 4
        await turns(3)
