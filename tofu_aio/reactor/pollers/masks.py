"""What the masks of poll(2), epoll(7) and wepoll mean."""

from __future__ import annotations

from tofu_aio.reactor.pollers.poller import BOTH, READ, WRITE


def meanings(readable: int, writable: int, *ends: int) -> dict[int, int]:
    """Return what each mask that can come says.

    Args:
        readable: The flag for it.
        writable: The flag for it.
        ends: The flags that come whatever was asked, such as HUP, ERR and NVAL. They must reach
            whichever interest is registered: a pipe's writer registers READ to see the reader
            close.
    """
    said = {0: 0}
    for flag, means in ((readable, READ), (writable, WRITE), *((end, BOTH) for end in ends)):
        said |= {mask | flag: before | means for mask, before in said.items()}
    return said
