"""The meaning of the masks of poll(2), epoll(7) and wepoll."""

from __future__ import annotations

from tofu_aio.reactor.pollers.poller import BOTH, READ, WRITE


def meanings(readable: int, writable: int, *ends: int) -> dict[int, int]:
    """Return the meaning of each mask that can be reported.

    Args:
        readable: The flag of a readable descriptor.
        writable: The flag of a writable descriptor.
        ends: The flags that are always reported, such as HUP, ERR and NVAL. They must reach any
            interest that is registered: the writer of a pipe registers READ to notice when the
            reader closes.
    """
    meanings_of = {0: 0}
    for flag, means in ((readable, READ), (writable, WRITE), *((end, BOTH) for end in ends)):
        meanings_of |= {mask | flag: before | means for mask, before in meanings_of.items()}
    return meanings_of
