"""CPython's own tests of selectors, from the interpreter's `test` package, on the reactor's."""

from __future__ import annotations

import select
import unittest

import pytest

from tests.reactor.every_poller import POLLERS
from tofu_aio.reactor import ReactorSelector

# Absent where the distributor split it off. Its cases must not become names of this module, or
# they would be collected too.
cpython = pytest.importorskip("test.test_selectors")


class Cases(cpython.BaseSelectorTestCase, cpython.ScalableSelectorMixIn):
    """What CPython asks of each of its own selectors."""


if hasattr(select, "epoll"):
    from tofu_aio.reactor.pollers.epoll import EpollPoller

    class EpollReactorSelector(ReactorSelector):
        def __init__(self):
            super().__init__(EpollPoller)

    class TestEpoll(Cases, unittest.TestCase):
        SELECTOR = EpollReactorSelector

        # The one test that CPython has for epoll alone.
        test_register_file = cpython.EpollSelectorTestCase.test_register_file


if hasattr(select, "poll"):
    from tofu_aio.reactor.pollers.poll import PollPoller

    class PollReactorSelector(ReactorSelector):
        def __init__(self):
            super().__init__(PollPoller)

    class TestPoll(Cases, unittest.TestCase):
        SELECTOR = PollReactorSelector


if "kqueue" in POLLERS:

    class KqueueReactorSelector(ReactorSelector):
        def __init__(self):
            super().__init__(POLLERS["kqueue"])

    class TestKqueue(Cases, unittest.TestCase):
        SELECTOR = KqueueReactorSelector

        # What CPython has for kqueue alone.
        test_register_bad_fd = cpython.KqueueSelectorTestCase.test_register_bad_fd
        test_empty_select_timeout = cpython.KqueueSelectorTestCase.test_empty_select_timeout
