"""What the masks of poll(2), epoll(7) and wepoll mean."""

from __future__ import annotations

from tofu_aio.reactor.pollers.poller import BOTH, READ, WRITE


class Masks(dict[int, int]):
    """The meaning of each mask, found out when it is first seen.

    A dictionary because the selector looks up every event in it; there are few masks.
    """

    __slots__ = ()

    def __init__(self, readable: int, writable: int) -> None:
        super().__init__({readable: READ, writable: WRITE})

    def __missing__(self, mask: int) -> int:
        # Both at once, or something that is neither (HUP, ERR, NVAL), alone or with the others.
        # The latter comes whatever was asked and must reach whichever interest is registered: a
        # pipe's writer registers READ to see the reader close.
        self[mask] = BOTH
        return BOTH
