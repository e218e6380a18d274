"""Addresses of all kinds, as URLs and in the form that headers have."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final, TypeAlias
from urllib.parse import unquote

from .errors import InvalidAddress

MAX_PORT: Final = 65535
_MAX_FD: Final = 2**31 - 1
ANY_HOST: Final = "*"
"""The host of a listener on all addresses of the machine."""

_FORMS: Final = (
    "use tcp://host:port, uds:///path, uds://@name (Linux abstract), or nats://host/service"
)
_NATS_FORM: Final = (
    "use nats://host:port/service, or nats+tls:// for TLS, with several hosts as a,b,c and with "
    "user:password@ or token@ before them, or ?credentials=/path at the end"
)
_NATS_SCHEMES: Final = frozenset({"nats", "nats+tls"})
_NATS_PORT: Final = "4222"
_NATS_URL: Final = re.compile(
    # An "@" in the options would be that of a password with "/" and "?". It is allowed only in the
    # path of the credentials file.
    r"(?:(.*?)@)??([^@/?]+)/([^@/?]+)/?(?:\?(credentials=[^&]*|[^@]*))?"
)
_BROKER: Final = re.compile(r"[A-Za-z0-9._-]+|[0-9A-Fa-f.]*:[0-9A-Fa-f:.]*(?:%[A-Za-z0-9._%-]+)?")
"""Hosts that mean the same to whoever parses a URL with them: nats-py would end one at a "#"."""

_MAX_SERVICE: Final = 200
_SERVICE: Final = re.compile(r"[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*")
"""Tokens of a NATS subject, without those that brokers give a meaning: ``*``, ``>`` and ``$``."""

_BEFORE_AT: Final = re.compile(r"\A(?>([A-Za-z0-9+.-]+://)?).+@", re.DOTALL)

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
            raise InvalidAddress(f"{_masked(host)!r} is not a host: {_FORMS}")
        if ":" in host and not _IPV6.fullmatch(host):
            raise InvalidAddress(f"{host!r} is not a host and not an IPv6 address: {_FORMS}")
        if not 0 <= self.port <= MAX_PORT:
            raise InvalidAddress(
                f"port {self.port} is not within 0 to {MAX_PORT}, for host {host!r}"
            )

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
                f"{_masked(self.path)!r} cannot be the path of a Unix socket: it must have no "
                "'|', no control character, no unpaired surrogate and no blank at its end"
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


@dataclass(frozen=True, slots=True)
class FdAddress:
    """A file descriptor with a socket to listen on, which this process has inherited.

    It is for ``listen`` only, and not on Windows. The listener then has the address of the socket.

    Args:
        fd: the number. A service manager passes 3 first (sd_listen_fds(3)).

    Raises:
        InvalidAddress: the number is out of range.
    """

    fd: int

    def __post_init__(self) -> None:
        if not 0 <= self.fd <= _MAX_FD:
            raise InvalidAddress(f"descriptor {self.fd} is not within 0 to {_MAX_FD}")

    def __str__(self) -> str:
        """The URL."""
        return f"fd://{self.fd}"

    def to_header(self) -> str:
        """The form that headers would have, if they had any: ``fd|number``."""
        return f"fd|{self.fd}"


@dataclass(frozen=True, slots=True)
class NatsAddress:
    """A service that is reached through NATS brokers.

    The URL, the header form and ``repr`` never contain what proves the identity of this program.
    A URL without it does not connect to a broker that demands it, so keep the object. The header
    form is refused with it: a peer may have written that, and must not name a credentials file.

    Args:
        brokers: the brokers to connect to, in any order; any of them will do, so they must be of
            one cluster. Their hosts are IPv6 addresses, or have ASCII letters, digits, ``.``,
            ``-`` and ``_``.
        service: the name of the service, 1 to 200 characters: letters, digits, ``-`` and ``_``,
            and single dots between them.
        tls: whether the connection to the broker must be encrypted.
        user: the name of a user of the brokers, with ``password``.
        password: of that user.
        token: in place of a user.
        credentials: the path of a credentials file, in place of a user.

    Raises:
        InvalidAddress: an argument is not allowed, or there is more than one proof of identity.
    """

    brokers: tuple[TcpAddress, ...]
    service: str
    tls: bool = False
    user: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)
    credentials: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if not self.brokers:
            raise InvalidAddress(f"a NATS address needs at least one broker: {_NATS_FORM}")
        for broker in self.brokers:
            if not broker.port or not _BROKER.fullmatch(broker.host):
                raise InvalidAddress(
                    f"{_bare(broker)!r} is not a broker to connect to: use a host of ASCII "
                    "letters, digits, '.', '-' and '_', or an IPv6 address, and a port from 1"
                )
        if len(self.service) > _MAX_SERVICE or not _SERVICE.fullmatch(self.service):
            raise InvalidAddress(
                f"{_masked(self.service)!r:.80} is not the name of a service: use letters, digits, "
                "'-' and '_', with single dots between them, at most "
                f"{_MAX_SERVICE} characters in all"
            )
        if (self.user is None) is not (self.password is None):
            raise InvalidAddress(f"{self}: a user needs a password, and a password a user")
        proofs = [self.user, self.token, self.credentials]
        if len(proofs) - proofs.count(None) > 1:
            raise InvalidAddress(
                f"{self}: give one of user and password, token, or credentials file"
            )
        if "" in proofs:
            raise InvalidAddress(f"{self}: user, token and credentials must not be empty")

    def __str__(self) -> str:
        """The URL, without what proves the identity."""
        return f"{self._scheme}://{self._names}/{self.service}"

    def to_header(self) -> str:
        """The form in the headers of Welcome and Hello: ``nats|host:port,host:port|service``."""
        return f"{self._scheme}|{self._names}|{self.service}"

    @property
    def _scheme(self) -> str:
        return "nats+tls" if self.tls else "nats"

    @property
    def _names(self) -> str:
        return ",".join(map(_bare, self.brokers))


def _bare(broker: TcpAddress) -> str:
    return str(broker).removeprefix("tcp://")


def _masked(text: str) -> str:
    """The text for an error: what is before its last "@" may be a password."""
    return _BEFORE_AT.sub(r"\1...@", text)


Address: TypeAlias = TcpAddress | UdsAddress | FdAddress | NatsAddress
"""An address of any kind. Listeners and peers have one of any kind but ``FdAddress``."""


def parse_address(text: str | Address) -> Address:
    """Parse a URL, or the form used in headers. An ``Address`` is returned unchanged.

    Raises:
        InvalidAddress: the text is neither; the message says what is wrong and what is allowed, and
            shows nothing of what is before the last ``@``, which may be a password.
        TypeError: ``text`` is neither a str nor an address.
    """
    if isinstance(text, Address):
        return text
    if not isinstance(text, str):
        raise TypeError(
            f"an address must be a str or an Address, not {_masked(repr(text)):.80}: {_FORMS}"
        )
    scheme, separator, rest = text.strip().partition("://")
    if separator and scheme.lower() in _NATS_SCHEMES:  # first, because a password may contain |
        return _parse_nats(scheme.lower(), rest)
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
            f"tcp://{_masked(rest)}: an IPv6 address needs brackets, as in tcp://[::1]:7000"
        )
    return host, port


def _parse(text: str, scheme: str, *parts: str) -> Address:
    shown = _masked(text)
    match scheme, parts:
        case "tcp", (_, "") | (_,):
            raise InvalidAddress(
                f"{shown!r}: the port is missing, a number from 0 to {MAX_PORT}: {_FORMS}"
            )
        case "tcp", (host, port):
            # isdecimal() is true for digits of other scripts, which int() accepts too. And int()
            # refuses numbers of thousands of digits with a message of its own.
            if not (port.isascii() and port.isdecimal() and len(port) <= len(str(MAX_PORT))):
                raise InvalidAddress(
                    f"{shown!r}: {_masked(port)!r} is not a port, a number from 0 to "
                    f"{MAX_PORT}: {_FORMS}"
                )
            return TcpAddress(host or ANY_HOST, int(port))
        case "uds", (path,):
            return UdsAddress(path)
        case "fd", (number,):
            if not (number.isascii() and number.isdecimal() and len(number) <= len(str(_MAX_FD))):
                raise InvalidAddress(
                    f"{shown!r}: {_masked(number)!r} is not the number of a descriptor: use "
                    "fd://3, for example"
                )
            return FdAddress(int(number))
        case (("nats" | "nats+tls"), (brokers, service)):
            if "@" in brokers or "?" in service:
                raise InvalidAddress(
                    f"{scheme}|...: the form for headers goes to the peer, and may come from one: "
                    "it must not say who connects. Give user and password, token or credentials "
                    f"in a URL: {_NATS_FORM}"
                )
            return _parse_nats(scheme, f"{brokers}/{service}")
        case _:
            raise InvalidAddress(f"{shown!r} is not an address: {_FORMS}")


def _parse_nats(scheme: str, rest: str) -> NatsAddress:
    """Parse what follows the scheme. No error shows what proves the identity."""
    found = _NATS_URL.fullmatch(rest)
    if found is None:
        raise InvalidAddress(f"the address has no broker or no service: {_NATS_FORM}")
    identity, hosts, service, query = found.groups()
    user, colon, password = (identity or "").partition(":")
    shown = f"{scheme}://{'' if identity is None else '...@'}{hosts}/{service}"
    brokers = tuple(_parse_broker(shown, each) for each in hosts.split(","))
    # By hand, because parse_qsl makes blanks of the plus signs in a path.
    options = {
        unquote(name): unquote(value)
        for name, _, value in (each.partition("=") for each in (query or "").split("&") if each)
    }
    credentials = options.pop("credentials", None)
    if options:
        raise InvalidAddress(f"{shown}: unknown {', '.join(map(repr, options))}: {_NATS_FORM}")
    return NatsAddress(
        brokers,
        service,
        tls=scheme == "nats+tls",
        user=unquote(user) if colon else None,
        password=unquote(password) if colon else None,
        token=unquote(user) if identity is not None and not colon else None,
        credentials=credentials,
    )


def _parse_broker(shown: str, text: str) -> TcpAddress:
    host, port = _split_url(text)
    broker = _parse(shown, "tcp", host or " ", port or _NATS_PORT)
    assert isinstance(broker, TcpAddress)
    return broker
