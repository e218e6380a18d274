"""Addresses of peers: ``tcp://host:port`` and ``uds:///path``, and their form in headers."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, TypeAlias

from .errors import InvalidAddress

MAX_PORT: Final = 65535
ANY_HOST: Final = "*"
"""The host of a listener on all addresses of the machine."""

_FORMS: Final = "use tcp://host:port, uds:///path, or uds://@name (Linux abstract)"
_NOT_IN_HOST: Final = frozenset(" /[]@|")
_IPV6: Final = re.compile(r"[0-9A-Fa-f.]*:[0-9A-Fa-f.]*:[0-9A-Fa-f:.]*(?:%.+)?")
"""Close enough to tell an IPv6 address from host:port. The resolver applies the exact rules."""

_NOT_IN_PATH: Final = re.compile(
    # What would end or split a header, or a line on a terminal. What UTF-8 cannot encode, except
    # the surrogates that stand for undecodable bytes of a file name (PEP 383). And a blank at the
    # end, because it is trimmed where the header is read.
    r"[\0-\x1f\x7f|\ud800-\udc7f\udd00-\udfff]|\s\Z"
)


@dataclass(frozen=True, slots=True)
class TcpAddress:
    """A TCP port of a host.

    Args:
        host: a name, an IPv4 address, or an IPv6 address without brackets. A listener may use
            ``*`` for all addresses of the machine.
        port: 0 to 65535. A listener may use 0 to let the system choose a free port.

    Raises:
        InvalidAddress: the host is empty or malformed, or the port is out of range.
    """

    host: str
    port: int

    def __post_init__(self) -> None:
        host = self.host
        if not host or not host.isprintable() or not _NOT_IN_HOST.isdisjoint(host):
            raise InvalidAddress(f"{host!r} is not a host: {_FORMS}")
        if ":" in host and not _IPV6.fullmatch(host):
            raise InvalidAddress(f"{host!r} is not a host and not an IPv6 address: {_FORMS}")
        if not 0 <= self.port <= MAX_PORT:
            raise InvalidAddress(f"port {self.port} is not within 0 to {MAX_PORT}")

    def __str__(self) -> str:
        """The URL, with an IPv6 address in brackets."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"tcp://{host}:{self.port}"

    def to_header(self) -> str:
        """The form in the headers of Welcome and Hello: ``tcp|host|port``."""
        # The Zig library writes an empty host for "all addresses".
        return f"tcp|{'' if self.host == ANY_HOST else self.host}|{self.port}"


@dataclass(frozen=True, slots=True)
class UdsAddress:
    """A Unix domain socket.

    Args:
        path: the path of the socket file, or ``@`` and a name in Linux's abstract namespace. An
            abstract socket has no file and therefore no permissions: every user of the machine may
            connect to it (unix(7)).

    Raises:
        InvalidAddress: the path is empty, or it has a character that is not allowed.
    """

    path: str

    def __post_init__(self) -> None:
        if self.path in {"", "@"}:
            raise InvalidAddress(
                f"{self.path!r} names no Unix socket, which needs a path or a name: {_FORMS}"
            )
        if _NOT_IN_PATH.search(self.path):
            raise InvalidAddress(
                f"{self.path!r} cannot be the path of a Unix socket: it must have no '|', no "
                "control character, no unpaired surrogate and no blank at its end"
            )

    @property
    def abstract(self) -> bool:
        """Whether the address is a name in Linux's abstract namespace, not a file."""
        return self.path.startswith("@")

    def __str__(self) -> str:
        """The URL."""
        return f"uds://{self.path}"

    def to_header(self) -> str:
        """The form in the headers of Welcome and Hello: ``uds|path``."""
        return f"uds|{self.path}"


Address: TypeAlias = TcpAddress | UdsAddress
"""The address of a listener, of either kind."""


def parse_address(text: str | Address) -> Address:
    """Parse a URL, or the form used in headers. An ``Address`` is returned unchanged.

    Raises:
        InvalidAddress: the text is neither; the message says what is wrong and what is allowed.
        TypeError: ``text`` is neither a str nor an address.
    """
    if isinstance(text, TcpAddress | UdsAddress):
        return text
    if not isinstance(text, str):
        raise TypeError(f"an address must be a str or an Address, not {text!r:.80}: {_FORMS}")
    scheme, separator, rest = text.strip().partition("://")
    if "|" in text or not separator:  # checked first, because a path may contain ://
        return _parse(text, *text.strip().split("|"))
    scheme = scheme.lower()
    return _parse(text, scheme, *(_split_url(rest) if scheme == "tcp" else (rest,)))


def _split_url(rest: str) -> tuple[str, str]:
    rest = rest.removesuffix("/")
    host, colon, port = rest.rpartition(":")
    if not colon or rest.endswith("]"):
        host, port = rest, ""  # a colon, if there is one, belongs to an IPv6 address
    if host.startswith("[") and host.endswith("]") and ":" in host:
        host = host[1:-1]
    elif ":" in host:
        raise InvalidAddress(
            f"tcp://{rest}: an IPv6 address needs brackets, as in tcp://[::1]:7000"
        )
    return host, port


def _parse(text: str, scheme: str, *parts: str) -> Address:
    match scheme, parts:
        case "tcp", (_, "") | (_,):
            raise InvalidAddress(
                f"{text!r}: the port is missing, a number from 0 to {MAX_PORT}: {_FORMS}"
            )
        case "tcp", (host, port):
            # isdecimal() is true for digits of other scripts, which int() accepts too. And int()
            # refuses numbers of thousands of digits with a message of its own.
            if not (port.isascii() and port.isdecimal() and len(port) <= len(str(MAX_PORT))):
                raise InvalidAddress(
                    f"{text!r}: {port!r} is not a port, a number from 0 to {MAX_PORT}: {_FORMS}"
                )
            return TcpAddress(host or ANY_HOST, int(port))
        case "uds", (path,):
            return UdsAddress(path)
        case _:
            raise InvalidAddress(f"{text!r} is not an address: {_FORMS}")
