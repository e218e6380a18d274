"""TLS between a connection and its socket, the same on every loop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from collections.abc import Callable
from typing import Final, cast

from ..protocol.address import TcpAddress
from ..protocol.errors import CommunicationFailed, WrongAddress
from .limits import TLS_ANSWERS, TLS_DATA, WRITE_HIGH_WATER
from .lingering_close import LingeringClose
from .peer import CERTIFICATES, NO_CERTIFICATES, certificates_of
from .stream_protocol import StreamProtocol

logger = logging.getLogger("tofu_aio.listener")

_PIECE: Final = 64 * 1024
"""Bytes that OpenSSL is given at a time: its buffers grow to that, and never shrink."""

SEALED: Final = "tofu_sealed"
"""Asks a transport how many bytes have come from the peer, still encrypted; None without TLS."""

_RECORD: Final = 16 * 1024
"""Bytes that one record may bring at most (RFC 8446, 5.1)."""

_CURES: Final = {
    "WRONG_VERSION_NUMBER": "the peer does not speak TLS",
    "UNKNOWN_PROTOCOL": "the peer does not speak TLS",
    "HTTP_REQUEST": "the peer speaks HTTP without TLS",
    "NO_SHARED_CIPHER": "no cipher in common: has the listener's context a certificate? "
    "(load_cert_chain)",
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "the client has no certificate, and this listener's "
    "context demands one",
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": "the listener demands a certificate: load one into the "
    "context (load_cert_chain)",
    "TLSV1_ALERT_UNKNOWN_CA": "the peer does not know who signed this side's certificate",
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": "the peer found this side's certificate expired",
    "SSLV3_ALERT_BAD_CERTIFICATE": "the peer refused this side's certificate",
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": "the peer refused this side's certificate",
    "SSLV3_ALERT_HANDSHAKE_FAILURE": "the peer refused: no cipher in common, or it has, or got, "
    "no certificate",
}
_CURES["UNEXPECTED_MESSAGE"] = _CURES["UNKNOWN_PROTOCOL"]

_WRONG_SIDE: Final = {
    True: (ssl.PROTOCOL_TLS_CLIENT, "listening", "CLIENT_AUTH"),
    False: (ssl.PROTOCOL_TLS_SERVER, "connecting", "SERVER_AUTH"),
}


class Tls(StreamProtocol, asyncio.Protocol, asyncio.Transport):
    """A transport to the connection above it, a protocol to the transport below it.

    asyncio's own TLS differs from loop to loop and from version to version: whether an end of the
    stream lets the other direction live, what becomes of data that waits while the connection is
    lost. Here all that is readable goes up at once, so nothing is ever held back or lost, and
    pausing, limits and closing are those of the transport below. It is connected from the start
    and keeps what is written until the handshake is over; whoever waits for the peer's first
    message thereby bounds the handshake.

    Args:
        connection: the protocol above.
        context: of this side.
        server_hostname: whom the peer's certificate must name; None on the listener's side.

    Raises:
        ValueError: the context checks names, and there is none.
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
        self._shaken = False  # hands
        self._ended = False  # the peer said that nothing more comes
        self._failure: CommunicationFailed | None = None
        self._certificates = NO_CERTIFICATES
        self._unwritten = bytearray()  # until the handshake, or a renegotiation, is over
        self._arrived = 0  # bytes from the peer, still encrypted
        self._answered = 0  # bytes that TLS itself has said since the handshake
        self._high_water = WRITE_HIGH_WATER
        self._below_full = False
        self._full = False  # as what is above was told

    # --- the protocol ---------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Connect what is above. The handshake begins with the client's first write."""
        self._below = cast("asyncio.Transport", transport)
        self._above.connection_made(self)

    def data_received(self, data: bytes | memoryview) -> None:
        """Hand on what this makes readable."""
        self._arrived += len(data)
        plain = self.decrypt(data)
        answered = self._outgoing.pending
        self._write_through()
        if answered and self._below_full:
            self._protocol.count_answer(answered)
        self._tell_failure()
        if plain:
            self._protocol.data_received(plain)
        if self._ended and not self.is_closing():
            self.eof_received()

    def eof_received(self) -> bool:
        """No more comes, announced or not: a tofu peer's last word is its Bye, not TLS's."""
        if self.is_closing():
            return True  # a transport of Windows' proactor tells of it all the same
        if not self._shaken and not self._server_side:
            self._fail("the peer closed the connection in the handshake: does it speak TLS?")
            self._tell_failure()
        elif not self._protocol.eof_received():
            self.close()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """Hand it on; a failure of TLS explains more than what came of it."""
        self._above.connection_lost(self._failure or exc)

    def pause_writing(self) -> None:
        """Hand it on."""
        self._below_full = True
        self._tell_room()

    def resume_writing(self) -> None:
        """Hand it on, unless more waits for a renegotiation."""
        self._below_full = False
        self._tell_room()

    # --- the transport --------------------------------------------------------------------

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Encrypt and send."""
        self._unwritten += data
        if not self._shaken:
            self.decrypt(b"")  # begins the handshake, if this is the first
        self._write_through()
        self._tell_failure()

    def can_write_eof(self) -> bool:
        """It can."""
        return True

    def write_eof(self) -> None:
        """Say, to TLS and to the socket, that nothing more is sent."""
        self._say_goodbye()
        self._below.write_eof()

    def close(self) -> None:
        """Say so, and close once all is sent."""
        if not self._below.is_closing():
            self._say_goodbye()
            self._below.close()

    def abort(self) -> None:
        """Close at once."""
        self._below.abort()

    def is_closing(self) -> bool:
        """As below."""
        return self._below.is_closing()

    def is_reading(self) -> bool:
        """As below."""
        return self._below.is_reading()

    def pause_reading(self) -> None:
        """As below."""
        self._below.pause_reading()

    def resume_reading(self) -> None:
        """As below."""
        self._below.resume_reading()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """As below, and likewise for what waits for the handshake or a renegotiation."""
        if high is not None:
            self._high_water = high
        self._below.set_write_buffer_limits(high, low)
        self._tell_room()

    def get_write_buffer_size(self) -> int:
        """As below, with what waits for the handshake or a renegotiation."""
        return len(self._unwritten) + self._below.get_write_buffer_size()

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Be another's transport."""
        self._above = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        """Whose transport it is."""
        return self._above

    def get_extra_info(self, name: str, default: object = None) -> object:
        """As below, and ``SEALED`` and ``CERTIFICATES``."""
        if name == SEALED:
            return self._arrived
        if name == CERTIFICATES:
            return self._certificates
        return self._below.get_extra_info(name, default)

    # --- between the two ------------------------------------------------------------------

    def decrypt(self, data: bytes | memoryview) -> bytes:
        """What these bytes from the peer make readable; maybe nothing yet."""
        records: list[bytes] = []
        for at in range(0, len(data) or 1, _PIECE):
            self._incoming.write(data[at : at + _PIECE])
            shaken, said = self._shaken, self._outgoing.pending
            try:
                while self._failure is None and not self._ended:
                    if not self._shaken:
                        self._ssl.do_handshake()
                        self._certificates = certificates_of(self._ssl)
                        self._shaken = True
                    record = self._ssl.read(_RECORD)
                    self._ended = not record
                    records.append(record)
            except ssl.SSLWantReadError:
                pass
            except ssl.SSLZeroReturnError:
                self._ended = True
            except ssl.SSLError as error:
                self._fail(_explain(error), error)
            except ValueError as error:
                self._fail(f"the peer's certificate cannot be read: {error}", error)
            if shaken:
                self._count_answers(self._outgoing.pending - said)
        return b"".join(records)

    def _count_answers(self, nbytes: int) -> None:
        """TLS itself has so much to say to what came."""
        self._answered += nbytes
        if self._answered > TLS_ANSWERS + self._arrived // TLS_DATA:
            self._fail("the peer asks for new keys again and again, and sends little else")

    def _write_through(self) -> None:
        """Send what is to be sent: our data, and what TLS itself has to say."""
        sealed = [self._outgoing.read()]
        try:
            while self._unwritten and self._shaken and self._failure is None:
                done = self._ssl.write(self._unwritten[:_PIECE])
                del self._unwritten[:done]
                sealed.append(self._outgoing.read())
        except ssl.SSLWantReadError:  # a renegotiation (TLS 1.2): the peer's part of it comes first
            sealed.append(self._outgoing.read())
        except ssl.SSLError as error:
            self._fail(_explain(error), error)
        if data := b"".join(sealed):
            self._below.write(data)
        self._tell_room()

    def _tell_room(self) -> None:
        """Have what is above write no more than the transport, or TLS itself, can pass on.

        A peer decides how long a renegotiation takes, and meanwhile the transport's own buffer is
        empty.
        """
        full = self._below_full or len(self._unwritten) > self._high_water
        if full is not self._full:
            self._full = full
            if full:
                self._above.pause_writing()
            else:
                self._above.resume_writing()

    def _say_goodbye(self) -> None:
        if self._failure is None:
            with contextlib.suppress(ssl.SSLError):  # it does not wait for the peer's answer
                self._ssl.unwrap()
            self._write_through()

    def _fail(self, text: str, cause: Exception | None = None) -> None:
        if self._failure is None:
            self._failure = CommunicationFailed(f"TLS failed: {text}")
            self._failure.__cause__ = cause

    def _tell_failure(self) -> None:
        """End the connection, if TLS has failed, so that the peer can hear why."""
        if self._failure is None or self.is_closing():
            return
        if self._server_side and not self._shaken:
            name = self._below.get_extra_info("sockname")
            logger.info("%s: a connection was refused: %s", name, self._failure)
            LingeringClose(self._below, self)
        elif self._shaken:
            self._below.abort()
        else:
            self._below.close()

    @property
    def _protocol(self) -> StreamProtocol:
        return cast("StreamProtocol", self._above)


def client_layer(
    address: object, context: ssl.SSLContext | None, server_hostname: str | None
) -> Callable[[StreamProtocol], StreamProtocol]:
    """What puts TLS, if it is wanted, between a connection to the address and its socket.

    Raises:
        TypeError, ValueError, WrongAddress: TLS cannot be had like this.
    """
    if context is None:
        if server_hostname is not None:
            raise ValueError("server_hostname is for TLS: give ssl=, an ssl.SSLContext, too")
        return as_it_is
    host = _check(address, context, server_side=False)
    if context.protocol != ssl.PROTOCOL_TLS_CLIENT and context.verify_mode is ssl.CERT_NONE:
        # Nobody has asked for that: it is what a context for either side begins with.
        raise ValueError(
            "this ssl.SSLContext verifies no certificate, so anybody could pass for the listener: "
            "use ssl.create_default_context(). If you mean it, take that one, or "
            "ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), and set check_hostname = False, and then "
            "verify_mode = ssl.CERT_NONE"
        )
    name = host.partition("%")[0] if server_hostname is None else server_hostname
    return lambda connection: Tls(connection, context, name)


def server_layer(
    address: object, context: ssl.SSLContext | None
) -> Callable[[StreamProtocol], StreamProtocol]:
    """What puts TLS, if it is wanted, between a listener's connections and their sockets.

    Raises:
        TypeError, ValueError, WrongAddress: TLS cannot be had like this.
    """
    if context is None:
        return as_it_is
    _check(address, context, server_side=True)
    return lambda connection: Tls(connection, context)


def as_it_is(connection: StreamProtocol) -> StreamProtocol:
    """The layer that is none."""
    return connection


def _check(address: object, context: object, *, server_side: bool) -> str:
    """Refuse what cannot work, and return the host."""
    wrong, doing, purpose = _WRONG_SIDE[server_side]
    if not isinstance(context, ssl.SSLContext):
        raise TypeError(
            f"ssl is an ssl.SSLContext, not {context!r}: use "
            f"ssl.create_default_context(ssl.Purpose.{purpose})"
        )
    if context.protocol == wrong:
        raise ValueError(
            f"this ssl.SSLContext is not for {doing}: use "
            f"ssl.create_default_context(ssl.Purpose.{purpose})"
        )
    if not isinstance(address, TcpAddress):
        raise WrongAddress(f"{address}: TLS is for TCP: a Unix socket never leaves the machine")
    return address.host


_UNKNOWN_AUTHORITY: Final = {18, 19, 20, 21}
"""OpenSSL's codes for a certificate that nobody vouches for whom we know (x509_vfy.h)."""


def _explain(error: ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        text = f"the peer's certificate is not valid: {error.verify_message}"
        cure = ": load its authority into the context, with load_verify_locations"
        return text + (cure if error.verify_code in _UNKNOWN_AUTHORITY else "")
    reason = error.reason or str(error)
    return _CURES.get(reason) or reason.lower().replace("_", " ")
