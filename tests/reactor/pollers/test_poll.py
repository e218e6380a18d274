"""What only poll(2) does: it looks at numbers, each time anew."""

from __future__ import annotations

import os
import select

import pytest

if not hasattr(select, "poll"):
    pytest.skip("this system has no poll", allow_module_level=True)

from tests.reactor.pollers.polling import look
from tofu_aio.reactor.pollers.poll import PollPoller, probe
from tofu_aio.reactor.pollers.poller import BOTH, READ, WRITE


def test_a_number_closed_without_removal_is_ready_until_it_is_removed(make_pair):
    poller = PollPoller()
    left, _ = make_pair()
    fd = left.fileno()
    poller.add(fd, READ, 1)
    left.close()
    assert look(poller, 0, 1) == look(poller, 0, 1) == [(fd, BOTH)]
    poller.remove(fd, READ)
    assert look(poller, 0, 1) == []


def test_a_reused_number_is_watched_under_its_new_file(make_pair):
    poller = PollPoller()
    left, _ = make_pair()
    other, peer = make_pair()
    poller.add(left.fileno(), READ, 1)
    os.dup2(other.fileno(), left.fileno())
    assert look(poller, 0, 1) == []
    peer.send(b"x")
    assert look(poller, 0, 1) == [(left.fileno(), READ)]


def test_probe_reports_a_hang_up_as_what_was_asked():
    reader, writer = os.pipe()
    os.close(reader)
    assert probe(writer, READ) == READ
    assert probe(writer, WRITE) == WRITE
    os.close(writer)
