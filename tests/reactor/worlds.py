"""Worlds for a selector to live in: a model of epoll(7), and epoll itself over sockets.

Both know what is true of every file, which is what a test judges the selector's answers by.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import select
import socket

from tofu_aio.reactor.pollers.epoll import EpollPoller
from tofu_aio.reactor.pollers.poller import READ, WRITE

# Numbers that nothing else in the process uses; copies live above them.
FIRST_NUMBER = 300
FIRST_COPY = 400


class File:
    """An open file, and what is true of it."""

    def __init__(self):
        self.pending = False
        self.blocked = False
        self.hung_up = False

    def readiness(self):
        readable = READ if self.pending or self.hung_up else 0
        writable = WRITE if self.hung_up or not self.blocked else 0
        return readable | writable


class World:
    """Numbers, the files they name, and copies that keep files open. The model's own truth."""

    def __init__(self):
        self.files = {}
        self.copies = []
        self.lies = {}
        self.meanwhile = None
        self.harvest = []
        self.pollers = 0

    def open(self, number):
        self.files[number] = File()

    def close(self, number):
        del self.files[number]

    def copy(self, number):
        self.copies.append(self.files[number])

    def close_copy(self, index):
        return self.copies.pop(index)

    def restore(self, index, number):
        self.files[number] = self.copies[index]

    def feed(self, number):
        self.files[number].pending = True

    def drain(self, number):
        self.files[number].pending = False

    def block(self, number):
        self.files[number].blocked = True

    def unblock(self, number):
        self.files[number].blocked = False

    def hang_up(self, number):
        self.files[number].hung_up = True

    def make_epoll(self):
        return EpollModel(self)

    def probe(self, number, interest):
        return self.files[number].readiness() & interest if number in self.files else 0

    def make_poller(self):
        self.pollers += 1
        return WatchedPoller(self)

    def end(self):
        pass


class EpollModel:
    """`select.epoll` as epoll(7) describes it, over a world's files."""

    def __init__(self, world):
        self.world = world
        self.masks = {}
        self.closed = False

    def _key(self, number):
        assert not self.closed
        if number not in self.world.files:
            raise OSError(errno.EBADF, "EBADF")
        return number, self.world.files[number]

    def register(self, number, mask):
        key = self._key(number)
        if key in self.masks:
            raise OSError(errno.EEXIST, "EEXIST")
        self.masks[key] = mask

    def modify(self, number, mask):
        key = self._key(number)
        if key not in self.masks:
            raise OSError(errno.ENOENT, "ENOENT")
        self.masks[key] = mask

    def unregister(self, number):
        key = self._key(number)
        if key not in self.masks:
            raise OSError(errno.ENOENT, "ENOENT")
        del self.masks[key]

    def poll(self, timeout, maxevents):
        # The kernel drops what no copy keeps open, and hands out from a queue.
        alive = {*self.world.files.values(), *self.world.copies}
        self.masks = {key: mask for key, mask in self.masks.items() if key[1] in alive}
        answer = []
        for key, mask in list(self.masks.items()):
            number, file = key
            always = select.EPOLLHUP if file.hung_up else 0
            readable = select.EPOLLIN if file.readiness() & READ else 0
            writable = select.EPOLLOUT if file.readiness() & WRITE else 0
            events = (readable | writable) & mask | always
            if events and len(answer) < maxevents:
                answer.append((number, events))
                self.masks[key] = self.masks.pop(key)
        lies, self.world.lies = self.world.lies, {}
        return [*lies.items(), *(event for event in answer if event[0] not in lies)]

    def close(self):
        self.closed = True


class WatchedPoller(EpollPoller):
    """The epoll poller over a world, with what happens between the kernel's answer and ours."""

    def __init__(self, world):
        self._world = world
        self._epoll = world.make_epoll()

    def wait(self, timeout, limit, /):
        self._world.harvest = self._epoll.poll(timeout, limit)
        meanwhile, self._world.meanwhile = self._world.meanwhile, None
        if meanwhile is not None:
            meanwhile()
        return self._world.harvest

    def probe(self, fd, interest, /):
        return self._world.probe(fd, interest)


class RealWorld(World):
    """The same with sockets under the numbers, and epoll over them."""

    def __init__(self):
        super().__init__()
        self.peers = {}
        self.copy_numbers = []

    def open(self, number):
        super().open(number)
        ours, peer = socket.socketpair()
        os.dup2(ours.fileno(), number)
        ours.close()
        os.set_blocking(number, False)
        # Out of the way of the next socketpair and of the numbers.
        high = fcntl.fcntl(peer.fileno(), fcntl.F_DUPFD_CLOEXEC, FIRST_COPY)
        peer.close()
        self.peers[self.files[number]] = socket.socket(fileno=high)
        self.peers[self.files[number]].setblocking(False)

    def close(self, number):
        super().close(number)
        os.close(number)

    def copy(self, number):
        super().copy(number)
        self.copy_numbers.append(fcntl.fcntl(number, fcntl.F_DUPFD_CLOEXEC, FIRST_COPY))

    def close_copy(self, index):
        os.close(self.copy_numbers.pop(index))
        return super().close_copy(index)

    def restore(self, index, number):
        super().restore(index, number)
        os.dup2(self.copy_numbers[index], number)

    def feed(self, number):
        file = self.files[number]
        if not file.hung_up:
            super().feed(number)
            with contextlib.suppress(BlockingIOError):
                self.peers[file].send(b"x")

    def drain(self, number):
        super().drain(number)
        # BlockingIOError at the end, or ConnectionResetError where the peer left data unread.
        with contextlib.suppress(OSError):
            while os.read(number, 65536):
                pass

    def block(self, number):
        if not self.files[number].hung_up:
            super().block(number)
            with contextlib.suppress(BlockingIOError):
                while True:
                    os.write(number, b"x" * 65536)

    def unblock(self, number):
        super().unblock(number)
        with contextlib.suppress(OSError):
            while self.peers[self.files[number]].recv(65536):
                pass

    def hang_up(self, number):
        super().hang_up(number)
        self.peers[self.files[number]].close()

    def make_epoll(self):
        return select.epoll()

    def probe(self, number, interest):
        return EpollPoller.probe(None, number, interest)

    def end(self):
        for number in self.files:
            os.close(number)
        for number in self.copy_numbers:
            os.close(number)
        for peer in self.peers.values():
            peer.close()
