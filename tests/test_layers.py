"""Which layer of the package may import which, and that no modules import each other."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import tofu_aio

PACKAGE = Path(tofu_aio.__file__).parent
TOP = {"", "__main__"}

COMMON = {"core", "accepting", "checks", "forks", "rare_warnings", "worker_threads"}
"""The core, and modules without a folder. They import only ``protocol`` and each other."""

KNOWS = {
    "core": {"core"},
    "protocol": {"protocol", "core"},
    "accepting": {"accepting"},
    "checks": {"checks"},
    "forks": {"forks"},
    "rare_warnings": {"rare_warnings"},
    "worker_threads": {"worker_threads", "protocol"},
    "reactor": {"reactor", "accepting", "forks"},
    "transport": {"transport", "protocol"} | COMMON,
    "messaging": {"messaging", "transport", "protocol", "core"} | COMMON,
    "service": {"service", "messaging", "transport", "protocol"} | COMMON,
    "blocking": {"blocking", "service", "messaging", "transport", "protocol", "reactor"} | COMMON,
    "testing": {"testing", "service", "messaging", "transport", "protocol"} | COMMON,
}
"""The layers of the package that each layer may import. What is not here may import all."""

DOES_WITHOUT = {
    "protocol": {"asyncio", "socket", "select", "selectors", "time"},
    "messaging": {"select", "selectors"},
    "transport": {"select", "selectors"},
    "blocking": {"select", "selectors", "socket"},
}
"""The modules of the standard library that each layer may not import itself."""


def layer_of(module: str) -> str:
    """The second name of a dotted one; "" is the top."""
    return [*module.split("."), ""][1]


def imported(source: str, module: str, *, is_package: bool) -> Iterator[str]:
    """The absolute name of everything that the source imports, wherever it does."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = module.split(".")[: None if is_package else -1]
            base = base[: len(base) - node.level + 1] if node.level else []
            origin = ".".join([*base, *([node.module] if node.module else [])])
            yield from (f"{origin}.{alias.name}" for alias in node.names)


def offences(source: str, module: str, *, is_package: bool = False) -> list[str]:
    """What the source imports and, being in its layer, may not."""
    layer = layer_of(module)
    found = []
    for name in imported(source, module, is_package=is_package):
        top = name.partition(".")[0]
        if top == "tofu_aio":
            bad = layer in KNOWS and layer_of(name) not in KNOWS[layer]
        else:
            bad = top in DOES_WITHOUT.get(layer, ())
        if bad:
            found.append(name)
    return found


def modules() -> dict[str, Path]:
    """Every module of the package by its dotted name."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


@pytest.mark.parametrize("module", modules())
def test_a_module_imports_only_what_its_layer_may_know(module: str) -> None:
    path = modules()[module]
    source = path.read_text(encoding="utf-8")
    assert offences(source, module, is_package=path.stem == "__init__") == []


def private_uses(source: str) -> list[str]:
    """The private attributes that the source uses of anything but ``self``."""
    return [
        node.attr
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Attribute)
        and node.attr.startswith("_")
        and not node.attr.startswith("__")
        and node.attr != "_replace"  # of a NamedTuple, where it is public
        and not (isinstance(node.value, ast.Name) and node.value.id == "self")
    ]


@pytest.mark.parametrize(
    "path", sorted((PACKAGE / "service").rglob("*.py")), ids=lambda path: path.stem
)
def test_services_stand_on_the_public_interface(path: Path) -> None:
    assert private_uses(path.read_text(encoding="utf-8")) == []


def test_a_private_use_is_found() -> None:
    assert private_uses("self._own = channel._connection.queue") == ["_connection"]


def dependencies() -> dict[str, set[str]]:
    """Which modules of the package each module imports, for type checking or in a function too."""
    found = modules()
    graph: dict[str, set[str]] = {}
    for module, path in found.items():
        source = path.read_text(encoding="utf-8")
        names = imported(source, module, is_package=path.stem == "__init__")
        # ``from .package import name`` is a module or something in one.
        known = {name if name in found else name.rpartition(".")[0] for name in names}
        graph[module] = {name for name in known if name in found and name != module}
    return graph


def cycles(graph: dict[str, set[str]]) -> list[set[str]]:
    """Modules that import each other, directly or by way of others."""
    reached: dict[str, set[str]] = {}
    for module in graph:
        ahead, seen = [module], set[str]()
        while ahead:
            for name in graph[ahead.pop()] - seen:
                seen.add(name)
                ahead.append(name)
        reached[module] = seen
    found: list[set[str]] = []
    for module in graph:
        cycle = {other for other in reached[module] if module in reached[other]}
        if cycle and cycle not in found:
            found.append(cycle)
    return found


FOR_TYPES = {f"tofu_aio.protocol.{name}" for name in ("errors", "message", "text_headers")}
"""Errors carry messages, and messages raise errors. A protocol class in between would be a worse
type for users of ``ConnectFailed.answer``."""


def test_no_modules_import_each_other() -> None:
    assert cycles(dependencies()) == [FOR_TYPES]


def test_a_cycle_is_found() -> None:
    graph = {"a": {"b"}, "b": {"c"}, "c": {"a", "d"}, "d": set[str]()}
    assert cycles(graph) == [{"a", "b", "c"}]


def test_every_layer_has_its_rule() -> None:
    layers = {layer_of(module) for module in modules()}
    assert layers <= {*KNOWS, *TOP, "cli"}
    assert layers >= {"protocol", "transport", "reactor", "messaging", "blocking", "cli", ""}


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("protocol.decoder", "import asyncio"),
        ("protocol.decoder", "import asyncio.events as events"),
        ("protocol.decoder", "import struct, time"),
        ("protocol.decoder", "from socket import AF_UNIX"),
        ("protocol.decoder", "def f():\n    import selectors"),
        ("protocol.decoder", "if TYPE_CHECKING:\n    from select import epoll"),
        ("protocol.decoder", "from ..reactor import loop"),
        ("protocol.decoder", "from .. import reactor"),
        ("protocol.decoder", "from .. import Engine"),
        ("protocol.decoder", "import tofu_aio"),
        ("protocol.decoder", "import tofu_aio.messaging.engine"),
        ("protocol.decoder", "from tofu_aio import messaging"),
        ("protocol.deep.module", "from ...reactor.loop import Loop"),
        ("reactor.loop", "from ..protocol.status import Status"),
        ("reactor.loop", "from ..messaging import engine"),
        ("reactor.pollers.epoll", "from ...protocol import pool"),
        ("messaging.engine", "from ..reactor.loop import Loop"),
        ("messaging.engine", "from ..cli import main"),
        ("messaging.engine", "from .. import new_event_loop"),
        ("messaging.engine", "import selectors"),
        ("messaging.engine", "from select import poll"),
        ("messaging.engine", "from ..blocking import Engine"),
        ("reactor.loop", "from ..blocking.loop_thread import LoopThread"),
        ("blocking.engine", "from ..cli import main"),
        ("blocking.engine", "from .. import Engine"),
        ("blocking.engine", "import selectors"),
        ("messaging.engine", "from ..service.call import Call"),
        ("service.client", "from ..blocking.client import Client"),
        ("service.client", "from ..reactor import loop"),
        ("testing.ports", "from ..reactor import loop"),
        ("transport.tcp", "from ..messaging.limits import LINGER"),
        ("transport.tcp", "from ..reactor import loop"),
        ("transport.tcp", "import selectors"),
        ("checks", "from .protocol import errors"),
        ("messaging.group", "from ..service.client import Client"),
        ("service.client", "from ..reactor import run"),
    ],
)
def test_what_breaks_a_rule_is_found(module: str, source: str) -> None:
    assert len(offences(source, f"tofu_aio.{module}")) == 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("protocol.decoder", "import struct\nfrom .pool import Pool\nfrom . import status"),
        ("protocol.decoder", "from timeit import timeit"),
        ("reactor.loop", "import asyncio, select, selectors\nfrom .pollers.epoll import Epoll"),
        ("reactor.pollers.epoll", "from ..table import Table\nfrom .poller import Poller"),
        ("messaging.engine", "import asyncio, socket, time\nfrom ..protocol.pool import Pool"),
        ("blocking.engine", "import asyncio\nfrom ..reactor import new_event_loop"),
        ("blocking.engine", "from ..messaging import engine\nfrom .loop_thread import LoopThread"),
        ("blocking.client", "from ..service.client import Client"),
        ("cli.demo", "from .. import Engine\nfrom ..reactor import loop"),
        ("__main__", "from .cli import main"),
    ],
)
def test_what_breaks_none_is_not(module: str, source: str) -> None:
    assert offences(source, f"tofu_aio.{module}") == []


def test_a_package_s_own_imports_start_from_itself() -> None:
    source = "from .reactor import Loop\nfrom .protocol.status import Status"
    assert offences(source, "tofu_aio", is_package=True) == []
    assert offences("from .epoll import Epoll", "tofu_aio.reactor.pollers", is_package=True) == []
    assert len(offences("from ..reactor import x", "tofu_aio.protocol", is_package=True)) == 1
