"""TLS between a connection and its socket, with the same behaviour on every loop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from collections.abc import Callable
from typing import Final, cast

from ..protocol.address import NatsAddress, TcpAddress
from ..protocol.errors import CommunicationFailed, WrongAddress
from .limits import TLS_ANSWERS, TLS_DATA, WRITE_HIGH_WATER
from .lingering_close import LingeringClose
from .peer import CERTIFICATES, NO_CERTIFICATES, certificates_of
from .stream_protocol import StreamProtocol
from .tls_failures import explain

logger = logging.getLogger("tofu_aio.listener")

_PIECE: Final = 64 * 1024
"""Bytes given to OpenSSL at a time: its buffers grow to this size, and never shrink."""

SEALED: Final = "tofu_sealed"
"""The name of the extra info with the number of encrypted bytes received; None without TLS."""

_RECORD: Final = 16 * 1024
"""The largest payload of one record, in bytes (RFC 8446, 5.1)."""

_WRONG_SIDE: Final = {
    True: (ssl.PROTOCOL_TLS_CLIENT, "listening", "CLIENT_AUTH"),
    False: (ssl.PROTOCOL_TLS_SERVER, "connecting", "SERVER_AUTH"),
}


class Tls(StreamProtocol, asyncio.Protocol, asyncio.Transport):
    """A transport for the connection above it, and a protocol for the transport below it.

    asyncio's own TLS behaves differently from loop to loop and from version to version, for example
    whether the other direction stays open after an end of the stream, and what happens to buffered
    data when the connection is lost. Here all decrypted data goes up at once, so nothing is held
    back or lost. Flow control, buffer limits and closing are those of the transport below.

    The connection above counts as connected from the start, and what it writes is buffered until
    the handshake is done. A timeout for the peer's first message therefore covers the handshake,
    too.

    Args:
        connection: the protocol above.
        context: of this side.
        server_hostname: the name that the peer's certificate must have; None on the listener's
            side.

    Raises:
        ValueError: the context checks host names, and ``server_hostname`` is empty.
    """

    def __init__(
        self,
        connection: StreamProtocol,
        context: ssl.SSLContext,
        server_hostname: str | None = None,
    ) -> None:
        super().__init__()
        self._above: asyncio.BaseProtocol = connection
        self._below: asyncio.Transport
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._server_side = server_hostname is None
        self._ssl = context.wrap_bio(
            self._incoming, self._outgoing, self._server_side, server_hostname
        )
        self._handshaken = False
        self._ended = False  # the peer has sent its close_notify
        self._failure: CommunicationFailed | None = None
        self._certificates = NO_CERTIFICATES
        self._unwritten = bytearray()  # waits for the end of a handshake or a renegotiation
        self._arrived = 0  # encrypted bytes received from the peer
        self._answered = 0  # bytes that TLS itself has sent since the handshake
        self._high_water = WRITE_HIGH_WATER
        self._below_full = False
        self._full = False  # whether the protocol above is paused

    # --- the protocol ---------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Connect the protocol above. The handshake starts with the client's first write."""
        self._below = cast("asyncio.Transport", transport)
        self._above.connection_made(self)

    def data_received(self, data: bytes | memoryview) -> None:
        """Decrypt the data, and pass on what is readable."""
        self._arrived += len(data)
        plain = self.decrypt(data)
        answered = self._outgoing.pending
        self._write_through()
        if answered and self._below_full:
            self._protocol.count_answer(answered)
        self._report_failure()
        if plain:
            self._protocol.data_received(plain)
        if self._ended and not self.is_closing():
            self.eof_received()

    def eof_received(self) -> bool:
        """Pass on the end of the stream, whether or not TLS announced it with a close_notify.

        A tofu peer announces the end of a conversation with a Bye, not with TLS.
        """
        if self.is_closing():
            return True  # Windows' proactor transports call this even while they are closing
        if not self._handshaken and not self._server_side:
            self._fail("the peer closed the connection in the handshake: check that it uses TLS")
            self._report_failure()
        elif not self._protocol.eof_received():
            self.close()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """Pass on the loss. A TLS failure replaces the error that it led to."""
        self._above.connection_lost(self._failure or exc)

    def pause_writing(self) -> None:
        """Pause the protocol above."""
        self._below_full = True
        self._update_pause()

    def resume_writing(self) -> None:
        """Resume the protocol above, unless too much data waits for a renegotiation."""
        self._below_full = False
        self._update_pause()

    # --- the transport --------------------------------------------------------------------

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Encrypt and send."""
        self._unwritten += data
        if not self._handshaken:
            self.decrypt(b"")  # the first write starts the handshake
        self._write_through()
        self._report_failure()

    def can_write_eof(self) -> bool:
        """Return True: half-closing is supported."""
        return True

    def write_eof(self) -> None:
        """Send a close_notify, then half-close the socket."""
        self._send_close_notify()
        self._below.write_eof()

    def close(self) -> None:
        """Send a close_notify, and close when all data has been sent."""
        if not self._below.is_closing():
            self._send_close_notify()
            self._below.close()

    def abort(self) -> None:
        """Close at once."""
        self._below.abort()

    def is_closing(self) -> bool:
        """Return whether the transport below is closing."""
        return self._below.is_closing()

    def is_reading(self) -> bool:
        """Return whether the transport below is reading."""
        return self._below.is_reading()

    def pause_reading(self) -> None:
        """Suspend reading in the transport below."""
        self._below.pause_reading()

    def resume_reading(self) -> None:
        """Resume reading in the transport below."""
        self._below.resume_reading()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Set the limits of the transport below, and of the data that waits for a handshake."""
        if high is not None:
            self._high_water = high
        self._below.set_write_buffer_limits(high, low)
        self._update_pause()

    def get_write_buffer_size(self) -> int:
        """Return the size of all unsent data, including what waits for a handshake."""
        return len(self._unwritten) + self._below.get_write_buffer_size()

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Replace the protocol above."""
        self._above = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        """Return the protocol above."""
        return self._above

    def get_extra_info(self, name: str, default: object = None) -> object:
        """Return ``SEALED``, ``CERTIFICATES`` or the info of the transport below."""
        if name == SEALED:
            return self._arrived
        if name == CERTIFICATES:
            return self._certificates
        return self._below.get_extra_info(name, default)

    # --- between the two ------------------------------------------------------------------

    def decrypt(self, data: bytes | memoryview) -> bytes:
        """Decrypt bytes from the peer. Return what is readable now, which may be nothing."""
        records: list[bytes] = []
        for at in range(0, len(data) or 1, _PIECE):
            self._incoming.write(data[at : at + _PIECE])
            handshaken, pending = self._handshaken, self._outgoing.pending
            try:
                while self._failure is None and not self._ended:
                    if not self._handshaken:
                        self._ssl.do_handshake()
                        self._certificates = certificates_of(self._ssl)
                        self._handshaken = True
                    record = self._ssl.read(_RECORD)
                    self._ended = not record
                    records.append(record)
            except ssl.SSLWantReadError:
                pass
            except ssl.SSLZeroReturnError:
                self._ended = True
            except ssl.SSLError as error:
                self._fail(explain(error), error)
            except ValueError as error:
                self._fail(f"the peer's certificate cannot be read: {error}", error)
            if handshaken:
                self._count_answers(self._outgoing.pending - pending)
        return b"".join(records)

    def _count_answers(self, nbytes: int) -> None:
        """Count what TLS itself sends as an answer, and fail if it is too much."""
        self._answered += nbytes
        if self._answered > TLS_ANSWERS + self._arrived // TLS_DATA:
            self._fail("the peer requests new keys too often for the little data that it sends")

    def _write_through(self) -> None:
        """Encrypt and send the unwritten data, and send what TLS itself has to send."""
        sealed = [self._outgoing.read()]
        try:
            while self._unwritten and self._handshaken and self._failure is None:
                done = self._ssl.write(self._unwritten[:_PIECE])
                del self._unwritten[:done]
                sealed.append(self._outgoing.read())
        except ssl.SSLWantReadError:  # a renegotiation (TLS 1.2) waits for the peer
            sealed.append(self._outgoing.read())
        except ssl.SSLError as error:
            self._fail(explain(error), error)
        if data := b"".join(sealed):
            self._below.write(data)
        self._update_pause()

    def _update_pause(self) -> None:
        """Pause or resume the protocol above.

        It is paused while the buffer of the transport below is full, and while too much data waits
        for a renegotiation. The peer decides how long a renegotiation takes, and the buffer of the
        transport below is empty meanwhile.
        """
        full = self._below_full or len(self._unwritten) > self._high_water
        if full is not self._full:
            self._full = full
            if full:
                self._above.pause_writing()
            else:
                self._above.resume_writing()

    def _send_close_notify(self) -> None:
        if self._failure is None:
            with contextlib.suppress(ssl.SSLError):  # the peer's answer is not waited for
                self._ssl.unwrap()
            self._write_through()

    def _fail(self, text: str, cause: Exception | None = None) -> None:
        if self._failure is None:
            self._failure = CommunicationFailed(f"TLS failed: {text}")
            self._failure.__cause__ = cause

    def _report_failure(self) -> None:
        """If TLS has failed, close the connection so that the peer receives the TLS alert."""
        if self._failure is None or self.is_closing():
            return
        if self._server_side and not self._handshaken:
            name = self._below.get_extra_info("sockname")
            logger.info("%s: a connection was refused: %s", name, self._failure)
            LingeringClose(self._below, self)
        elif self._handshaken:
            self._below.abort()
        else:
            self._below.close()

    @property
    def _protocol(self) -> StreamProtocol:
        return cast("StreamProtocol", self._above)


def client_layer(
    address: object, context: ssl.SSLContext | None, server_hostname: str | None
) -> Callable[[StreamProtocol], StreamProtocol]:
    """Return a function that puts TLS between a connecting side's connection and its socket.

    Without a context it returns the connection itself.

    Raises:
        TypeError, ValueError, WrongAddress: the arguments are wrong; the message says which.
    """
    if context is None:
        if server_hostname is not None:
            raise ValueError("server_hostname is for TLS only: give an ssl.SSLContext as ssl=, too")
        return as_it_is
    host = _check(address, context, server_side=False)
    if host is None:
        if server_hostname is not None:
            raise WrongAddress(
                f"{address}: the certificate of each broker must have the host of its address: "
                "leave out server_hostname"
            )
        return as_it_is
    if context.protocol != ssl.PROTOCOL_TLS_CLIENT and context.verify_mode is ssl.CERT_NONE:
        # A context for either side (PROTOCOL_TLS) starts like this, so it is hardly intended.
        raise ValueError(
            "this ssl.SSLContext verifies no certificate, so anyone could impersonate the "
            "listener: use ssl.create_default_context(). To disable verification on purpose, take "
            "that one, or ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), and set check_hostname = False, "
            "then verify_mode = ssl.CERT_NONE"
        )
    name = host.partition("%")[0] if server_hostname is None else server_hostname
    return lambda connection: Tls(connection, context, name)


def server_layer(
    address: object, context: ssl.SSLContext | None
) -> Callable[[StreamProtocol], StreamProtocol]:
    """Return a function that puts TLS between a listener's connection and its socket.

    Without a context it returns the connection itself.

    Raises:
        TypeError, ValueError, WrongAddress: the arguments are wrong; the message says which.
    """
    if context is None:
        return as_it_is
    if _check(address, context, server_side=True) is None:
        return as_it_is
    return lambda connection: Tls(connection, context)


def as_it_is(connection: StreamProtocol) -> StreamProtocol:
    """Return the connection itself: no TLS."""
    return connection


def _check(address: object, context: object, *, server_side: bool) -> str | None:
    """Check a context for an address, and return the host of the address.

    None if TLS ends at a broker, of which both sides are clients: then it is no layer.
    """
    brokered = isinstance(address, NatsAddress)
    wrong, doing, purpose = _WRONG_SIDE[server_side and not brokered]
    if not isinstance(context, ssl.SSLContext):
        raise TypeError(
            f"ssl is {context!r}, not an ssl.SSLContext: use "
            f"ssl.create_default_context(ssl.Purpose.{purpose})"
        )
    if context.protocol == wrong:
        raise ValueError(
            f"this ssl.SSLContext is not for {doing}: use "
            f"ssl.create_default_context(ssl.Purpose.{purpose})"
        )
    if brokered:
        return None
    if not isinstance(address, TcpAddress):
        raise WrongAddress(
            f"{address}: TLS is for TCP only, as a Unix socket never leaves the machine: leave out "
            "ssl"
        )
    return address.host
