"""The event loop: asyncio's selector loop over the reactor's selector."""

from __future__ import annotations

import asyncio

from tofu_aio.reactor.selector import ReactorSelector


class Loop(asyncio.SelectorEventLoop):
    """An asyncio event loop whose selector reconciles desired interest once a turn.

    Everything that `asyncio.SelectorEventLoop` documents holds.
    """

    def __init__(self, selector: ReactorSelector | None = None) -> None:
        super().__init__(ReactorSelector() if selector is None else selector)
