"""Metrics for Prometheus."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import urllib.request

import pytest

import tofu_aio as tofu
from tests.service.observed import images, served

prometheus = pytest.importorskip("prometheus_client")


def registry(*sources: object) -> prometheus.CollectorRegistry:
    """A registry with one collector."""
    registry = prometheus.CollectorRegistry(auto_describe=True)
    registry.register(tofu.PrometheusCollector(*sources))
    return registry


async def test_calls_of_both_sides_by_name_and_code() -> None:
    service = images()
    async with served(service) as address, tofu.Client(address) as client:
        for _ in range(3):
            await client.call("double", 1)
        for code in ("not_found", "conflict"):
            with pytest.raises(tofu.ServiceError):
                await client.call("fail", code)
        with pytest.raises(tofu.ServiceError):
            await client.call("nobody")
        value = registry(service, client).get_sample_value
        for side in ("tofu", "tofu_client"):
            calls = f"{side}_calls_total"
            assert value(calls, {"name": "double", "code": "ok"}) == 3
            assert value(calls, {"name": "fail", "code": "conflict"}) == 1
            assert value(f"{side}_call_duration_seconds_count", {"name": "fail"}) == 2
            longest = {"name": "double", "le": "+Inf"}
            assert value(f"{side}_call_duration_seconds_bucket", longest) == 3
            seconds = value(f"{side}_call_duration_seconds_sum", {"name": "double"})
            assert seconds is not None
            assert 0 < seconds < 60
            assert value(f"{side}_calls_running") == 0
        assert value("tofu_calls_refused_total", {"code": "unimplemented"}) == 1
        assert value("tofu_client_calls_total", {"name": "nobody", "code": "unimplemented"}) == 1
        assert value("tofu_client_connects_total") == 1
        assert value("tofu_client_retries_total") == 0


async def test_buckets_are_cumulative() -> None:
    client = tofu.Client("tcp://127.0.0.1:1")
    for seconds in (0.0001, 0.002, 0.002, 100):
        client.counts.ended("name", "ok", seconds)
    value = registry(client).get_sample_value
    counted = [
        value("tofu_client_call_duration_seconds_bucket", {"name": "name", "le": bound})
        for bound in ("0.001", "0.0025", "0.005", "10.0", "+Inf")
    ]
    assert counted == [1, 3, 3, 3, 4]


async def test_several_clients_are_added_up() -> None:
    async with (
        served(images()) as address,
        tofu.Client(address) as one,
        tofu.Client(address) as other,
    ):
        await one.call("double", 1)
        await other.call("double", 1)
        value = registry(one, other).get_sample_value
        assert value("tofu_client_calls_total", {"name": "double", "code": "ok"}) == 2
        assert value("tofu_engine_channels") == 2


async def test_a_source_may_be_added_later() -> None:
    async with served(images()) as address, tofu.Client(address) as client:
        collector = tofu.PrometheusCollector()
        registry = prometheus.CollectorRegistry()
        registry.register(collector)
        await client.call("double", 1)
        kind = {"name": "double", "code": "ok"}
        assert registry.get_sample_value("tofu_client_calls_total", kind) is None
        collector.add(client)
        assert registry.get_sample_value("tofu_client_calls_total", kind) == 1


async def test_the_engines_of_a_client_and_a_service_are_found() -> None:
    service = images()
    async with asyncio.TaskGroup() as tasks:
        started: asyncio.Future[list[tofu.Address]] = asyncio.Future()

        class Status:
            def started(self, value: list[tofu.Address]) -> None:
                started.set_result(value)

        serving = tasks.create_task(service.serve("tcp://127.0.0.1:0", task_status=Status()))
        (address,) = await started
        async with tofu.Client(address) as client:
            await client.call("double", 1)
            here, there = (registry(each).get_sample_value for each in (client, service))
            assert here("tofu_engine_channels") == 1
            assert there("tofu_engine_channels") == 2  # with the listener
            sent = here("tofu_engine_sent_bytes_total")
            assert sent == there("tofu_engine_received_bytes_total")
            assert sent is not None
            assert sent > 0
            assert here("tofu_engine_messages_sent_total") == 2
            assert here("tofu_engine_pool_free") == here("tofu_engine_pool_size")
            both = registry(client, service).get_sample_value
            assert both("tofu_engine_channels") == 3
        serving.cancel()


async def test_an_engine_that_is_given_twice_counts_once(engine: tofu.Engine) -> None:
    client = tofu.Client("tcp://127.0.0.1:1", group=engine.create_group())
    value = registry(client, engine, engine).get_sample_value
    assert value("tofu_engine_pool_size") == engine.statistics().pool_size
    await client.aclose()


async def test_metrics_are_served_from_a_thread_while_calls_are_made() -> None:
    service = images()
    server, thread = prometheus.start_http_server(0, "127.0.0.1", registry(service))
    url = f"http://127.0.0.1:{server.server_port}/metrics"
    try:
        async with served(service) as address, tofu.Client(address) as client:
            await client.call("double", 1)

            def fetch() -> str:
                with urllib.request.urlopen(url) as response:
                    return response.read().decode()

            text, _ = await asyncio.gather(
                asyncio.to_thread(fetch), client.call("double", 1, timeout=20)
            )
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
    assert 'tofu_calls_total{code="ok",name="double"}' in text
    assert "# TYPE tofu_call_duration_seconds histogram" in text


def test_what_is_no_source_is_refused() -> None:
    with pytest.raises(TypeError, match="give a Service, a Client or an Engine"):
        tofu.PrometheusCollector("service")


@pytest.mark.parametrize(
    ("name", "package", "extra"),
    [
        ("PrometheusCollector", "prometheus_client", "metrics"),
        ("Tracing", "opentelemetry", "tracing"),
        ("Service", "msgspec", "service"),
    ],
)
def test_without_its_package_a_name_says_how_to_get_it(name: str, package: str, extra: str) -> None:
    code = (
        f"import sys; sys.modules[{package!r}] = None\n"
        f"import tofu_aio\n"
        f"try: tofu_aio.{name}\n"
        "except ImportError as error: print(error)"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60
    )
    assert run.stdout.strip() == (
        f"tofu_aio.{name} needs {package}: install it with pip install 'tofu-aio[{extra}]'"
    )


def test_services_and_clients_import_neither() -> None:
    code = (
        "import sys, tofu_aio; tofu_aio.Service, tofu_aio.Client\n"
        "print({'prometheus_client', 'opentelemetry'} & set(sys.modules))"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=60
    )
    assert run.stdout.strip() == "set()"
