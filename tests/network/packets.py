"""IPv4 packets as bytes: what a router reads of them, changes in them, and answers to them."""

from __future__ import annotations

import ipaddress
import struct
import sys
from array import array
from typing import Final

TCP: Final = 6
_ICMP: Final = 1
_TIME_TO_LIVE: Final = 64
_UNREACHABLE, _TOO_LONG = 3, 4
_DO_NOT_FRAGMENT: Final = 0x4000
_SYN, _ACK = 0x02, 0x10

SOURCE, DESTINATION = 12, 16
"""Where the two addresses are in a packet. The ports are in the same order, two bytes each."""


def packed(address: str) -> bytes:
    """The four bytes of an address."""
    return ipaddress.IPv4Address(address).packed


def is_ipv4(packet: bytes) -> bool:
    """Whether it is IPv4. IPv6 looks for neighbours as soon as a device is up."""
    return packet[0] >> 4 == 4


def is_tcp(packet: bytes) -> bool:
    """Whether its payload is TCP."""
    return packet[9] == TCP


def may_be_fragmented(packet: bytes) -> bool:
    """Whether the sender leaves it to routers to cut it to size."""
    return not int.from_bytes(packet[6:8]) & _DO_NOT_FRAGMENT


def begins_connection(packet: bytes) -> bool:
    """Whether it is the first one of a TCP connection."""
    return bool(packet[_header(packet) + 13] & (_SYN | _ACK) == _SYN)


def end_of(packet: bytes, which: int) -> tuple[bytes, int]:
    """The address and the port of the source or the destination of a TCP packet."""
    port = _header(packet) + (which - SOURCE) // 2
    return packet[which : which + 4], int.from_bytes(packet[port : port + 2])


def with_end(packet: bytes, which: int, address: bytes, port: int) -> bytes:
    """A TCP packet with another source or destination."""
    changed = bytearray(packet)
    header = _header(packet)
    changed[which : which + 4] = address
    struct.pack_into("!H", changed, header + (which - SOURCE) // 2, port)
    _seal(changed, 10, changed[:header])
    segment = changed[header:]
    addresses = changed[SOURCE : SOURCE + 8]
    pseudo = addresses + struct.pack("!HH", TCP, len(segment))
    segment[16:18] = b"\0\0"
    struct.pack_into("!H", changed, header + 16, _checksum(pseudo + segment))
    return bytes(changed)


def too_long(packet: bytes, router: bytes, mtu: int) -> bytes:
    """The ICMP message that tells the sender which length the next link takes (RFC 1191)."""
    quoted = packet[: _header(packet) + 8]
    message = bytearray(struct.pack("!BBHHH", _UNREACHABLE, _TOO_LONG, 0, 0, mtu) + quoted)
    _seal(message, 2, message)
    length = 20 + len(message)
    header = bytearray(
        struct.pack(
            "!BBHHHBBH4s4s",
            0x45,
            0,
            length,
            0,
            0,
            _TIME_TO_LIVE,
            _ICMP,
            0,
            router,
            packet[SOURCE : SOURCE + 4],
        )
    )
    _seal(header, 10, header)
    return bytes(header + message)


def _header(packet: bytes) -> int:
    """The length of the IP header."""
    return (packet[0] & 15) * 4


def _seal(changed: bytearray, at: int, covered: bytearray) -> None:
    """Write the checksum of ``covered``, which is all or the beginning of ``changed``."""
    covered = bytearray(covered)
    covered[at : at + 2] = b"\0\0"
    struct.pack_into("!H", changed, at, _checksum(covered))


def _checksum(data: bytes | bytearray) -> int:
    """The Internet checksum (RFC 1071)."""
    words = array("H", bytes(data) + b"\0" * (len(data) % 2))
    if sys.byteorder == "little":
        words.byteswap()
    total = sum(words)
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
