"""Brokers for the tests of channels over NATS."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from tests.messaging.conftest import both_ends, nothing_goes_unheard, pair, raw_server
from tests.service.conftest import errors
from tests.transport.nats.brokers import Broker, missing, running

__all__ = ["both_ends", "errors", "nothing_goes_unheard", "pair", "raw_server"]


@pytest.fixture(autouse=True)
def needed() -> None:
    """Skip the tests where something has to be installed first."""
    if (text := missing()) is not None:
        pytest.skip(text)


@pytest.fixture(scope="session")
def shared_broker() -> Iterator[Broker]:
    """A broker for all tests that do it no harm."""
    if (text := missing()) is not None:
        pytest.skip(text)
    import nats.aio.client  # noqa: F401 - now, so that the first test does not wait for it

    with running() as broker:
        yield broker


@pytest.fixture
def broker(shared_broker: Broker) -> Broker:
    """The broker that tests share."""
    return shared_broker


@pytest.fixture
def transport_address(broker: Broker) -> str:
    """In place of an address of each kind of socket: so tests of other folders run over NATS."""
    return broker.url()


@pytest.fixture
def address(broker: Broker) -> str:
    """As ``transport_address``."""
    return broker.url()


Start = Callable[..., Broker]


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts brokers of a test's own, with what their configuration file should have."""
    with ExitStack() as stack:
        yield lambda config="", **options: stack.enter_context(running(config, **options))
