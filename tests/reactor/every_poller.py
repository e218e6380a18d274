"""Every poller that runs here: the system's own, and kqueue over a fake where there is none."""

from __future__ import annotations

import contextlib
import select
import sys
from collections.abc import Callable

from tofu_aio.reactor.pollers import Poller

POLLERS: dict[str, Callable[[], Poller]] = {}
if hasattr(select, "poll"):
    from tofu_aio.reactor.pollers.poll import PollPoller

    POLLERS["poll"] = PollPoller
if hasattr(select, "epoll"):
    from tofu_aio.reactor.pollers.epoll import EpollPoller

    POLLERS["epoll"] = EpollPoller
if sys.platform == "linux":
    from tests.reactor.pollers import fake_kqueue
    from tofu_aio.reactor.pollers import kqueue

    kqueue.select = fake_kqueue
    POLLERS["kqueue"] = kqueue.KqueuePoller
elif hasattr(select, "kqueue"):
    from tofu_aio.reactor.pollers.kqueue import KqueuePoller

    POLLERS["kqueue"] = KqueuePoller
if sys.platform == "win32":
    from tofu_aio.reactor.pollers.wsapoll import WSAPollPoller

    POLLERS["wsapoll"] = WSAPollPoller
    with contextlib.suppress(ImportError):
        from tofu_aio.reactor.pollers.wepoll import WepollPoller

        POLLERS["wepoll"] = WepollPoller
