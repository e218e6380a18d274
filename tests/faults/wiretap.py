"""What somebody with the keys sees of a connection over TLS: whose bytes end where in it."""

from __future__ import annotations

import struct
import tempfile
from functools import cache
from pathlib import Path
from ssl import PROTOCOL_TLS_CLIENT, PROTOCOL_TLS_SERVER, SSLContext
from typing import Final, NamedTuple, Self

import trustme
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA384
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

_RECORD: Final = struct.Struct(">BHH")
"""A record's content type, version and length (RFC 8446, 5.1)."""

_RANDOM: Final = slice(11, 43)
"""Where in a ClientHello, and its record's header, the bytes are that keys are logged under."""

_APPLICATION_DATA: Final = 23
_SECRETS: Final = ("CLIENT_TRAFFIC_SECRET_0", "SERVER_TRAFFIC_SECRET_0")


class Record(NamedTuple):
    """A whole record: where it ends, and what of the application's is in it."""

    end: int
    data: bytes


class Wiretap:
    """Contexts for both sides, and the keys of all connections that were made with them.

    Each connection has the same lengths of everything: an RSA signature has one length, while
    one over an elliptic curve may have a byte more or less.
    """

    def __init__(self) -> None:
        with tempfile.NamedTemporaryFile(prefix="keys", delete=False) as log:
            self._log = Path(log.name)
        self._keys = ""  # once there can be no others
        self.server = _server()
        self.client = SSLContext(PROTOCOL_TLS_CLIENT)
        _authority().configure_trust(self.client)
        self.client.keylog_filename = log.name

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._keys = self._log.read_text()
        self.client.keylog_filename = None  # closes it, without which Windows does not remove it
        self._log.unlink()

    def records(self, way: int, passed: tuple[bytearray, bytearray]) -> list[Record]:
        """The whole records of what has passed one way; handshake and alerts carry no data."""
        secret = self._secret(way, bytes(passed[0][_RANDOM]))
        number, at, found = 0, 0, []
        data = bytes(passed[way])
        while at + _RECORD.size <= len(data):
            kind, _, length = _RECORD.unpack_from(data, at)
            header, at = data[at : at + _RECORD.size], at + _RECORD.size + length
            if at > len(data):
                break
            plain = b""
            if kind == _APPLICATION_DATA and secret:
                try:
                    plain = _opened(secret, number, header, data[at - length : at])
                except InvalidTag:
                    plain = b""  # under the handshake's keys
                else:
                    number += 1
            # The content's own type is its last byte (5.4); OpenSSL pads nothing.
            found.append(Record(at, plain[:-1] if plain[-1:] == b"\x17" else b""))
        return found

    def _secret(self, way: int, random: bytes) -> bytes:
        begin = f"{_SECRETS[way]} {random.hex()} "
        for line in (self._keys or self._log.read_text()).splitlines():
            if line.startswith(begin):
                return bytes.fromhex(line.removeprefix(begin))
        return b""  # it did not get that far


@cache
def _authority() -> trustme.CA:
    return trustme.CA(key_type=trustme.KeyType.RSA)


@cache
def _server() -> SSLContext:
    context = SSLContext(PROTOCOL_TLS_SERVER)
    certificate = _authority().issue_cert("127.0.0.1", key_type=trustme.KeyType.RSA)
    certificate.configure_cert(context)
    return context


def _opened(secret: bytes, number: int, header: bytes, sealed: bytes) -> bytes:
    """A record of TLS_AES_256_GCM_SHA384, OpenSSL's first choice, decrypted (5.2, 5.3, 7.3)."""
    mask = int.from_bytes(_expanded(secret, b"iv", 12)) ^ number
    key = AESGCM(_expanded(secret, b"key", 32))
    return key.decrypt(mask.to_bytes(12), sealed, header)


def _expanded(secret: bytes, label: bytes, length: int) -> bytes:
    label = b"tls13 " + label
    info = struct.pack(">HB", length, len(label)) + label + b"\0"
    return HKDFExpand(SHA384(), length, info).derive(secret)
