"""Pollers: one small module for each system interface, all with the same protocol.

`default_poller` makes a new poller of the best kind that this system has. It raises OSError if the
system has no free descriptor or memory for one (EMFILE, ENOMEM).
"""

from __future__ import annotations

import select
import sys
from collections.abc import Callable

from tofu_aio.reactor.pollers.poller import Poller

__all__ = ["Poller", "default_poller"]

default_poller: Callable[[], Poller]

# The only place in the package where the platform selects a poller.
if sys.platform == "linux":
    from tofu_aio.reactor.pollers.epoll import EpollPoller

    default_poller = EpollPoller
elif sys.platform == "win32":
    try:
        from tofu_aio.reactor.pollers.wepoll import WepollPoller

        default_poller = WepollPoller
    except ImportError:  # the package wepoll is not there for every Python
        from tofu_aio.reactor.pollers.wsapoll import WSAPollPoller

        default_poller = WSAPollPoller
elif hasattr(select, "kqueue"):
    from tofu_aio.reactor.pollers.kqueue import KqueuePoller

    default_poller = KqueuePoller
else:
    from tofu_aio.reactor.pollers.poll import PollPoller

    default_poller = PollPoller
