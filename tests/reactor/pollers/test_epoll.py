"""What only epoll does: it knows open files, not numbers, and says so."""

from __future__ import annotations

import os
import select
import tempfile

import pytest

from tests.reactor.pollers.polling import look
from tofu_aio.reactor.pollers.poller import BOTH, READ, WRITE

if not hasattr(select, "epoll"):
    pytest.skip("this system has no epoll", allow_module_level=True)

from tofu_aio.reactor.pollers.epoll import EpollPoller


@pytest.fixture
def poller():
    poller = EpollPoller()
    yield poller
    poller.close()


def test_a_regular_file_is_refused(poller):
    with tempfile.TemporaryFile() as file, pytest.raises(PermissionError):
        poller.add(file.fileno(), READ, 1)


def test_a_closed_descriptor_is_refused(poller, make_pair):
    left, _ = make_pair()
    fd = left.fileno()
    left.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        poller.add(fd, READ, 1)


def test_a_close_is_an_unregistration_unless_a_copy_lives(poller, make_pair):
    left, right = make_pair()
    fd = left.fileno()
    poller.add(fd, READ, 1)
    copy = left.dup()
    right.send(b"x")
    left.close()
    assert look(poller, 0, 1) == [(fd, READ)]
    with pytest.raises(OSError, match="Bad file descriptor"):
        poller.remove(fd, READ)
    copy.close()
    assert look(poller, 0, 1) == []


def test_a_reused_number_is_unknown_to_modify_and_remove(poller, make_pair):
    left, _ = make_pair()
    other, _ = make_pair()
    fd = left.fileno()
    poller.add(fd, READ, 1)
    os.dup2(other.fileno(), fd)
    with pytest.raises(FileNotFoundError):
        poller.modify(fd, READ, WRITE, 1)
    with pytest.raises(FileNotFoundError):
        poller.remove(fd, READ)


def test_a_file_that_comes_back_to_its_number_can_be_added_again(poller, make_pair):
    left, right = make_pair()
    right.send(b"x")
    fd = left.fileno()
    poller.add(fd, READ, 1)
    copy = left.dup()
    left.close()
    os.dup2(copy.fileno(), fd)
    poller.add(fd, WRITE, 2)
    assert look(poller, 0, 1) == [(fd, WRITE)]
    os.close(fd)
    copy.close()


def test_an_empty_interest_is_never_told(poller, make_pair):
    left, right = make_pair()
    with pytest.raises(KeyError):
        poller.add(left.fileno(), 0, 1)
    poller.add(left.fileno(), BOTH, 1)
    with pytest.raises(KeyError):
        poller.modify(left.fileno(), BOTH, 0, 1)
    right.close()
    assert look(poller, 0, 1) == [(left.fileno(), BOTH)]
