"""TLS records by hand, under the keys of a real handshake: what no library would send.

A peer that has shaken hands honestly may go on with anything, and it is sealed as well as the rest.
"""

from __future__ import annotations

import hashlib
import hmac
import ssl
import struct
from collections.abc import Iterator
from functools import cache
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

import pytest

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

ALERT: Final = 21
HANDSHAKE: Final = 22
DATA: Final = 23
"""Content types (RFC 8446, 5.1)."""

KEY_UPDATE: Final = bytes([24, 0, 0, 1, 1])
"""A KeyUpdate that asks for one in return (RFC 8446, 4.6.3)."""

HELLO_REQUEST: Final = bytes(4)
"""A server's wish to shake hands again (RFC 5246, 7.4.1.1)."""

_HASH: Final = hashlib.sha384  # of both suites below
_CIPHER_1_3: Final = "TLS_AES_256_GCM_SHA384"
_TICKETS: Final = 2
"""Records that a server of OpenSSL's sends when its handshake has ended (TLS 1.3)."""

_CIPHERS_1_2: Final = {"ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-RSA-AES256-GCM-SHA384"}


class Sealer(Protocol):
    """Makes records of the next of one direction's."""

    def seal(self, content: bytes, kind: int = DATA) -> bytes:
        """One record."""


class Sealer13:
    """Records of TLS 1.3 (RFC 8446, 5.2 and 7).

    Args:
        secret: the traffic secret of the direction.
        sent: records that have been sent under it.
    """

    def __init__(self, secret: bytes, sent: int = 0) -> None:
        self._secret = secret
        self._take_keys(sent)

    def _take_keys(self, sent: int) -> None:
        self._numbers = count(sent)
        self._gcm = _aes_gcm(_labelled(self._secret, b"key", 32))
        self._iv = int.from_bytes(_labelled(self._secret, b"iv", 12), "big")

    def seal(self, content: bytes, kind: int = DATA) -> bytes:
        """One record; after a KeyUpdate the next has other keys."""
        head = struct.pack(">BHH", DATA, 0x0303, len(content) + 1 + 16)
        nonce = (self._iv ^ next(self._numbers)).to_bytes(12, "big")
        record: bytes = head + self._gcm.encrypt(nonce, content + bytes([kind]), head)
        if (kind, content) == (HANDSHAKE, KEY_UPDATE):
            self._secret = _labelled(self._secret, b"traffic upd", _HASH().digest_size)
            self._take_keys(0)
        return record


class Sealer12:
    """Records of TLS 1.2 (RFC 5246, 6.2 and 6.3; RFC 5288).

    Args:
        master: the master secret.
        client_random, server_random: of the handshake.
        server_side: whose direction it is.
    """

    def __init__(
        self, master: bytes, client_random: bytes, server_random: bytes, *, server_side: bool
    ) -> None:
        block = _expanded(master, b"key expansion" + server_random + client_random)
        keys = (block[:32], block[64:68]), (block[32:64], block[68:72])
        key, self._salt = keys[server_side]
        self._gcm = _aes_gcm(key)
        self._numbers = count(1)  # the Finished was before

    def seal(self, content: bytes, kind: int = DATA) -> bytes:
        """One record."""
        number = struct.pack(">Q", next(self._numbers))
        data = number + struct.pack(">BHH", kind, 0x0303, len(content))
        sealed: bytes = self._gcm.encrypt(self._salt + number, content, data)
        return struct.pack(">BHH", kind, 0x0303, 8 + len(sealed)) + number + sealed


def sealer(shaken: ssl.SSLObject, keys: Path, heard: bytes) -> Sealer:
    """What makes the records of a side that has just shaken hands, and has not written since.

    Args:
        shaken: the side's.
        keys: its context's ``keylog_filename``.
        heard: what the server has sent in the handshake.
    """
    secrets = {name: (random, secret) for name, random, secret in _secrets(keys)}
    cipher = shaken.cipher()
    assert cipher is not None
    if shaken.version() == "TLSv1.3":
        assert cipher[0] == _CIPHER_1_3
        side = "SERVER" if shaken.server_side else "CLIENT"
        return Sealer13(
            secrets[f"{side}_TRAFFIC_SECRET_0"][1], _TICKETS if shaken.server_side else 0
        )
    assert cipher[0] in _CIPHERS_1_2
    client_random, master = secrets["CLIENT_RANDOM"]
    # Behind the headers of the record and of its ServerHello, and the version.
    return Sealer12(master, client_random, heard[11:43], server_side=shaken.server_side)


def _secrets(path: Path) -> Iterator[tuple[str, bytes, bytes]]:
    for line in path.read_text().splitlines():
        if not line.startswith("#"):
            name, random, secret = line.split()
            yield name, bytes.fromhex(random), bytes.fromhex(secret)


def _labelled(secret: bytes, label: bytes, length: int) -> bytes:
    """HKDF-Expand-Label without a context, of one block at most (RFC 8446, 7.1)."""
    name = b"tls13 " + label
    info = struct.pack(">HB", length, len(name)) + name + b"\0"
    return hmac.digest(secret, info + b"\1", _HASH)[:length]


def _expanded(secret: bytes, seed: bytes) -> bytes:
    """P_hash, long enough for all keys (RFC 5246, 5)."""
    expanded = b""
    a = seed
    while len(expanded) < 72:
        a = hmac.digest(secret, a, _HASH)
        expanded += hmac.digest(secret, a + seed, _HASH)
    return expanded


def _aes_gcm(key: bytes) -> AESGCM:
    return _cipher()(key)


@cache
def _cipher() -> type[AESGCM]:
    aead = pytest.importorskip(
        "cryptography.hazmat.primitives.ciphers.aead", reason="no AES without cryptography"
    )
    cipher: type[AESGCM] = aead.AESGCM
    return cipher
