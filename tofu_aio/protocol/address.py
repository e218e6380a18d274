"""Where a peer is: ``tcp://host:port`` or ``uds:///path``, and the form that headers carry."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, TypeAlias

from .errors import InvalidAddress

MAX_PORT: Final = 65535
ANY_HOST: Final = "*"
"""The host of a listener on all of the machine's addresses."""

_FORMS: Final = "use tcp://host:port, uds:///path, or uds://@name (Linux abstract)"
_NOT_IN_HOST: Final = frozenset(" /[]@|")
_IPV6: Final = re.compile(r"[0-9A-Fa-f.]*:[0-9A-Fa-f.]*:[0-9A-Fa-f:.]*(?:%.+)?")
"""Near enough to tell it from host:port; the resolver knows it to the letter."""

_NOT_IN_PATH: Final = re.compile(
    # What would end or split a header, or a line of a terminal; what UTF-8 cannot carry, but for
    # the surrogates that stand for a file name's odd bytes (PEP 383); and a blank at the end,
    # which whoever reads a header trims.
    r"[\0-\x1f\x7f|\ud800-\udc7f\udd00-\udfff]|\s\Z"
)


@dataclass(frozen=True, slots=True)
class TcpAddress:
    """A TCP port of a host.

    Args:
        host: a name, an IPv4 or an IPv6 address (no brackets); ``*`` stands for all addresses
            of the machine, to listen on.
        port: 0 to 65535; 0 lets the system choose, to listen on.

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
            raise InvalidAddress(f"{host!r} is not a host, nor an IPv6 address: {_FORMS}")
        if not 0 <= self.port <= MAX_PORT:
            raise InvalidAddress(f"port {self.port} is not within 0 to {MAX_PORT}")

    def __str__(self) -> str:
        """The URL, with an IPv6 address in brackets."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"tcp://{host}:{self.port}"

    def to_header(self) -> str:
        """The form that the headers of Welcome and Hello carry: ``tcp|host|port``."""
        # The Zig library writes "every address" as nothing.
        return f"tcp|{'' if self.host == ANY_HOST else self.host}|{self.port}"


@dataclass(frozen=True, slots=True)
class UdsAddress:
    """A Unix domain socket.

    Args:
        path: of the socket file; or ``@`` and a name in Linux's abstract namespace, which has
            no file, and so no rights: every user of the machine may connect (unix(7)).

    Raises:
        InvalidAddress: the path is empty or has a character that cannot be in one.
    """

    path: str

    def __post_init__(self) -> None:
        if self.path in {"", "@"}:
            raise InvalidAddress(f"a Unix socket needs a path or a name: {_FORMS}")
        if _NOT_IN_PATH.search(self.path):
            raise InvalidAddress(
                f"{self.path!r} cannot be a Unix socket's path here: it may have no '|', no "
                "control character and no blank at its end"
            )

    @property
    def abstract(self) -> bool:
        """Whether it is a name in Linux's abstract namespace instead of a file."""
        return self.path.startswith("@")

    def __str__(self) -> str:
        """The URL."""
        return f"uds://{self.path}"

    def to_header(self) -> str:
        """The form that the headers of Welcome and Hello carry: ``uds|path``."""
        return f"uds|{self.path}"


Address: TypeAlias = TcpAddress | UdsAddress
"""Where a listener is."""


def parse_address(text: str | Address) -> Address:
    """Read a URL, or the form that headers carry. An address is returned as it is.

    Raises:
        InvalidAddress: it is neither; the message says what is wrong and what is right.
        TypeError: it is not even text.
    """
    if isinstance(text, TcpAddress | UdsAddress):
        return text
    if not isinstance(text, str):
        raise TypeError(f"an address is text or an Address, not {text!r:.80}: {_FORMS}")
    scheme, separator, rest = text.strip().partition("://")
    if "|" in text or not separator:  # first, for a path may contain ://
        return _parse(text, *text.strip().split("|"))
    scheme = scheme.lower()
    return _parse(text, scheme, *(_split_url(rest) if scheme == "tcp" else (rest,)))


def _split_url(rest: str) -> tuple[str, str]:
    rest = rest.removesuffix("/")
    host, colon, port = rest.rpartition(":")
    if not colon or rest.endswith("]"):
        host, port = rest, ""  # the last colon, if any, belongs to an IPv6 address
    if host.startswith("[") and host.endswith("]") and ":" in host:
        host = host[1:-1]
    elif ":" in host:
        raise InvalidAddress(f"tcp://{rest}: an IPv6 address stands in brackets, tcp://[::1]:7000")
    return host, port


def _parse(text: str, scheme: str, *parts: str) -> Address:
    match scheme, parts:
        case "tcp", (_, "") | (_,):
            raise InvalidAddress(f"{text!r}: the port is missing, 0 to {MAX_PORT}: {_FORMS}")
        case "tcp", (host, port):
            # isdecimal is true of other scripts' digits, which int() takes too.
            # And int() refuses thousands of them in its own words.
            if not (port.isascii() and port.isdecimal() and len(port) <= len(str(MAX_PORT))):
                raise InvalidAddress(f"{text!r}: {port!r} is not a port, 0 to {MAX_PORT}: {_FORMS}")
            return TcpAddress(host or ANY_HOST, int(port))
        case "uds", (path,):
            return UdsAddress(path)
        case _:
            raise InvalidAddress(f"{text!r} is not an address: {_FORMS}")
