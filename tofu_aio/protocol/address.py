"""Where a peer is: ``tcp://host:port`` or ``uds:///path``, and the form that headers carry."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, TypeAlias

from .errors import InvalidAddress

MAX_PORT: Final = 65535
ANY_HOST: Final = "*"
"""The host of a listener on all of the machine's addresses."""

_FORMS: Final = "use tcp://host:port, uds:///path, or uds://@name (Linux abstract)"
_FORBIDDEN: Final = frozenset("\r\n\0|")


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
        if not self.host or not _FORBIDDEN.isdisjoint(self.host) or set(" /[]@") & set(self.host):
            raise InvalidAddress(f"{self.host!r} is not a host: {_FORMS}")
        if not 0 <= self.port <= MAX_PORT:
            raise InvalidAddress(f"port {self.port} is not within 0 to {MAX_PORT}")

    def __str__(self) -> str:
        """The URL, with an IPv6 address in brackets."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"tcp://{host}:{self.port}"

    def to_header(self) -> str:
        """The form that the headers of Welcome and Hello carry: ``tcp|host|port``."""
        return f"tcp|{self.host}|{self.port}"


@dataclass(frozen=True, slots=True)
class UdsAddress:
    """A Unix domain socket.

    Args:
        path: of the socket file; or ``@`` and a name in Linux's abstract namespace, which has
            no file (unix(7)).

    Raises:
        InvalidAddress: the path is empty or has a character that cannot be in one.
    """

    path: str

    def __post_init__(self) -> None:
        if self.path in {"", "@"}:
            raise InvalidAddress(f"a Unix socket needs a path or a name: {_FORMS}")
        if not _FORBIDDEN.isdisjoint(self.path):
            raise InvalidAddress(f"{self.path!r} may not contain '|', CR, LF or NUL")

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


def parse_address(text: str | Address) -> Address:
    """Read a URL, or the form that headers carry. An address is returned as it is.

    Raises:
        InvalidAddress: it is neither; the message says what is wrong and what is right.
    """
    if isinstance(text, TcpAddress | UdsAddress):
        return text
    scheme, separator, rest = text.strip().partition("://")
    if separator:
        scheme = scheme.lower()
        return _parse(text, scheme, *(_split_url(rest) if scheme == "tcp" else (rest,)))
    scheme, *parts = text.strip().split("|")
    return _parse(text, scheme, *parts)


def _split_url(rest: str) -> tuple[str, str]:
    host, _, port = rest.removesuffix("/").rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise InvalidAddress(f"tcp://{rest}: an IPv6 address stands in brackets, tcp://[::1]:7000")
    return host or ANY_HOST, port


def _parse(text: str, scheme: str, *parts: str) -> Address:
    match scheme, parts:
        case "tcp", (host, port):
            # isdecimal is true of other scripts' digits, which int() takes too.
            if not (port.isascii() and port.isdecimal()):
                raise InvalidAddress(f"{text!r}: {port!r} is not a port number: {_FORMS}")
            return TcpAddress(host, int(port))
        case "uds", (path,):
            return UdsAddress(path)
        case _:
            raise InvalidAddress(f"{text!r} is not an address: {_FORMS}")
