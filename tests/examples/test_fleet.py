"""The programs of the fleet at work, over TCP and NATS, while some of them end."""

from __future__ import annotations

import re
import signal
import socket
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.processes import Running, spawn
from tests.transport.nats.brokers import Broker, missing, running

from .fleet_files import PASSWORD, SOCKET, broker_config, probes
from .programs import Programs, kill, posix, programs, serving, terminate, until

pytestmark = posix

needs_broker = pytest.mark.skipif(missing() is not None, reason=str(missing()))


@pytest.fixture
def started(tmp_path: Path) -> Iterator[Programs]:
    with programs(tmp_path) as found:
        yield found


@pytest.fixture
def broker(monkeypatch: pytest.MonkeyPatch) -> Iterator[Broker]:
    """Runs with the configuration of ``kubernetes.yaml``, apart from the ports."""
    monkeypatch.setenv("FLEET_PASSWORD", PASSWORD)
    config = broker_config("kubernetes.yaml")
    with running(config.replace("0.0.0.0:6222", "127.0.0.1:-1")) as one:
        yield one


def instance(started: Programs, name: str) -> Running:
    """An instance of the service, which answers health checks at a socket of its own."""
    program = started.start("fleet/service.py", started.address(name))
    until(lambda: serving(started.address(name)), "for the service")
    return program


def greeted_by(line: str, number: int) -> int:
    """The process that has answered a call."""
    found = re.fullmatch(rf"hello, no\. {number}, from .+/(\d+)", line)
    assert found is not None, line
    return int(found[1])


def test_over_tcp(started: Programs, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    monkeypatch.setenv("GREETER", f"tcp://127.0.0.1:{port}")
    service = instance(started, "one")
    code, out, err = started.start("fleet/client.py", "20").finish()
    assert (code, err) == (0, "")
    answered = {greeted_by(line, number) for number, line in enumerate(out.splitlines())}
    assert (out.count("\n"), answered) == (20, {service.process.pid})
    assert terminate(service) == (0, "", "")


@needs_broker
def test_a_client_goes_on_while_instances_end(
    started: Programs, broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One is killed, another one terminated. Each greeting comes once, in order."""
    monkeypatch.setenv("GREETER", broker.url("greeter", proof=f"fleet:{PASSWORD}@"))
    services = [instance(started, name) for name in ("one", "two", "three")]
    by_process = {service.process.pid: service for service in services}
    # More lines than a pipe holds, so the client is not done before they are read.
    count = 3000
    client = started.start("fleet/client.py", str(count))
    answered: Counter[int] = Counter()
    for number in range(count):
        process = greeted_by(client.line(), number)
        if not answered:
            assert kill(by_process.pop(process)).code == -signal.SIGKILL
        elif process not in answered and len(answered) == 1:
            assert terminate(by_process.pop(process)) == (0, "", "")
        answered[process] += 1
    assert client.finish() == (0, "", "")
    assert len(answered) == 3
    [left] = by_process.values()
    assert terminate(left) == (0, "", "")


def test_health_checks_ask_the_instance(started: Programs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GREETER", started.address("public"))
    service = instance(started, "own")
    probe, *others = probes()
    assert others == [probe, probe]
    assert probe[0] == "tofu"
    assert SOCKET in probe
    here = [started.address("own") if word == SOCKET else word for word in probe[1:]]
    asked = started.keep(spawn("-m", "tofu_aio", *here, folder=started.folder))
    assert asked.finish() == (0, '{"status":"serving"}\n', "")
    assert terminate(service) == (0, "", "")
    asked = started.keep(spawn("-m", "tofu_aio", *here, folder=started.folder))
    assert asked.finish().code == 1
