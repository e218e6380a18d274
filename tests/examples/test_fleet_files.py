"""The files that deploy the fleet are whole, and agree with each other and with the programs."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import pytest

from tests.transport.nats.brokers import PROGRAM, missing

from .fleet_files import (
    COMPOSE,
    DOCKERFILE,
    FOLDER,
    OBJECTS,
    PASSWORD,
    SOCKET,
    broker_config,
    broker_names,
    container,
    drain,
    greeter_address,
    pod,
    read,
    variables,
    yaml,
)

FILES = pytest.mark.parametrize("name", ["compose.yaml", "kubernetes.yaml"])

# --- the brokers ----------------------------------------------------------------------------------


@FILES
@pytest.mark.skipif(PROGRAM is None, reason=str(missing()))
def test_brokers_take_their_configuration(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert PROGRAM is not None
    monkeypatch.setenv("FLEET_PASSWORD", OBJECTS["Secret", "fleet"]["stringData"]["password"])
    path = tmp_path / "broker.conf"
    path.write_text(broker_config(name))
    checked = subprocess.run([PROGRAM, "-t", "-c", path], capture_output=True, check=False)
    assert checked.returncode == 0, checked.stderr


@FILES
def test_programs_and_brokers_agree(name: str) -> None:
    address, config = greeter_address(name), broker_config(name)
    assert f"user: {address.user}, password: $FLEET_PASSWORD" in config
    assert (address.service, address.password) == ("greeter", PASSWORD)
    [port] = re.findall(r"^port: (\d+)$", config, re.MULTILINE)
    assert [each.host for each in address.brokers] == broker_names(name)
    assert {each.port for each in address.brokers} == {int(port)}
    [listen] = re.findall(r'listen: "0.0.0.0:(\d+)"', config)
    assert re.findall(r"nats://[^\"]+", config) == [
        f"nats://{host}:{listen}" for host in broker_names(name)
    ]


# --- the image ------------------------------------------------------------------------------------


def test_the_image_has_the_programs() -> None:
    [copied] = re.findall(r"^COPY (.*) \./$", DOCKERFILE, re.MULTILINE)
    assert all((FOLDER / each).exists() for each in copied.split())
    [command] = re.findall(r"^CMD (.*)$", DOCKERFILE, re.MULTILINE)
    commands = [
        yaml.safe_load(command),
        container("Deployment", "greeter")["command"],
        *(COMPOSE["services"][each]["command"] for each in ("greeter", "client")),
    ]
    for python, script, *_ in commands:
        assert python == "python"
        assert script in copied.split()
    assert [each[2:] for each in commands[:3]] == [[SOCKET]] * 3
    [told] = re.findall(
        r"kubectl exec deploy/greeter -- (.*)$",
        (FOLDER / "kubernetes.yaml").read_text(),
        re.MULTILINE,
    )
    assert shlex.split(told)[:2] == commands[3][:2]


def test_the_image_has_what_they_import() -> None:
    [extras] = re.findall(r"tofu-aio\[(.*)\]", DOCKERFILE)
    assert {"service", "cli", "nats"} <= set(extras.split(","))


# --- compose.yaml ---------------------------------------------------------------------------------

SERVICE_KEYS = {
    "build", "command", "configs", "depends_on", "deploy", "environment", "healthcheck", "image",
    "restart", "stop_grace_period",
}  # fmt: skip


def test_compose_is_whole() -> None:
    services = COMPOSE["services"]
    top = {key for key in COMPOSE if not key.startswith("x-")}
    assert top == {"configs", "name", "services"}
    for name, service in services.items():
        assert set(service) <= SERVICE_KEYS, name
        for other, how in service.get("depends_on", {}).items():
            assert how == {"condition": "service_healthy"}
            assert "healthcheck" in services[other], f"{other} never becomes healthy"
        for config in service.get("configs", []):
            assert config in COMPOSE["configs"]
            assert service["command"] == ["--config", f"/{config}"]  # where compose puts it
    assert services["greeter"]["deploy"] == {"replicas": 3}
    assert services["client"]["environment"] == services["greeter"]["environment"]
    for broker in broker_names("compose.yaml"):
        assert "FLEET_PASSWORD" in services[broker]["environment"]
        [port] = re.findall(r"^http_port: (\d+)$", broker_config("compose.yaml"), re.MULTILINE)
        assert f"http://127.0.0.1:{port}/healthz" in services[broker]["healthcheck"]["test"]


def test_compose_lets_the_service_drain() -> None:
    grace = COMPOSE["services"]["greeter"]["stop_grace_period"]
    assert int(grace.removesuffix("s")) >= drain() + 10


# --- kubernetes.yaml ------------------------------------------------------------------------------

VERSIONS = {
    "ConfigMap": "v1",
    "Deployment": "apps/v1",
    "NetworkPolicy": "networking.k8s.io/v1",
    "PodDisruptionBudget": "policy/v1",
    "Secret": "v1",
    "Service": "v1",
    "StatefulSet": "apps/v1",
}
SETS = pytest.mark.parametrize(
    ("kind", "name"), [("Deployment", "greeter"), ("StatefulSet", "broker")]
)


def test_the_objects_are_of_known_kinds() -> None:
    assert len(OBJECTS) == len(read("kubernetes.yaml"))  # none has the name of another
    assert {kind for kind, _ in OBJECTS} == set(VERSIONS)
    for (kind, name), each in OBJECTS.items():
        assert each["apiVersion"] == VERSIONS[kind]
        assert re.fullmatch(r"[a-z]([a-z0-9-]*[a-z0-9])?", name)
        parts = {"Secret": {"stringData"}, "ConfigMap": {"data"}}.get(kind, {"spec"})
        assert set(each) == {"apiVersion", "kind", "metadata", *parts}


@SETS
def test_pods_have_what_they_name(kind: str, name: str) -> None:
    spec = OBJECTS[kind, name]["spec"]
    labels = spec["template"]["metadata"]["labels"]
    assert spec["selector"]["matchLabels"] == labels
    only = container(kind, name)
    assert variables(kind, name)["FLEET_PASSWORD"] == PASSWORD
    volumes = {each["name"]: each for each in pod(kind, name)["volumes"]}
    assert {each["name"] for each in only["volumeMounts"]} == set(volumes)
    ports = {each["name"] for each in only.get("ports", [])}
    for probe in ("readinessProbe", "livenessProbe"):
        [how] = only[probe].keys() & {"exec", "httpGet", "tcpSocket"}
        assert how == "exec" or only[probe][how]["port"] in ports
    assert only["resources"]["requests"]
    assert only["resources"]["limits"]["memory"]


def test_brokers_find_their_configuration() -> None:
    broker = container("StatefulSet", "broker")
    [volume] = pod("StatefulSet", "broker")["volumes"]
    [mount] = broker["volumeMounts"]
    [file] = OBJECTS["ConfigMap", volume["configMap"]["name"]]["data"]
    assert broker["args"] == ["--config", f"{mount['mountPath']}/{file}"]


def test_the_ports_of_the_brokers_agree() -> None:
    config = broker_config("kubernetes.yaml")
    told = re.findall(r'^(?:http_)?port: (\d+)$|listen: "0.0.0.0:(\d+)"', config, re.MULTILINE)
    ports = {
        each["name"]: each["containerPort"] for each in container("StatefulSet", "broker")["ports"]
    }
    assert {int("".join(each)) for each in told} == set(ports.values())
    service = OBJECTS["Service", "broker"]["spec"]
    labels = OBJECTS["StatefulSet", "broker"]["spec"]["template"]["metadata"]["labels"]
    assert service["selector"] == labels
    assert service["publishNotReadyAddresses"] is True
    for each in service["ports"]:
        assert ports[each["name"]] == each["port"]
    policy = OBJECTS["NetworkPolicy", "broker"]["spec"]
    assert policy["podSelector"]["matchLabels"] == labels
    everybody, brokers = policy["ingress"]
    assert everybody == {"ports": [{"port": ports["client"]}]}
    assert brokers["ports"] == [{"port": ports["cluster"]}]
    assert brokers["from"] == [{"podSelector": {"matchLabels": labels}}]
    assert OBJECTS["PodDisruptionBudget", "broker"]["spec"]["selector"]["matchLabels"] == labels


def test_kubernetes_lets_the_service_drain() -> None:
    assert pod("Deployment", "greeter")["terminationGracePeriodSeconds"] >= drain() + 10


def test_the_service_runs_without_rights() -> None:
    [user] = re.findall(r"^USER (.*)$", DOCKERFILE, re.MULTILINE)
    assert int(user) > 0  # runAsNonRoot takes no name
    assert pod("Deployment", "greeter")["securityContext"]["runAsNonRoot"] is True
    greeter = container("Deployment", "greeter")
    assert greeter["securityContext"]["readOnlyRootFilesystem"] is True
    [mount] = greeter["volumeMounts"]  # so the socket needs a volume
    assert SOCKET.startswith(f"uds://{mount['mountPath']}/")
    [volume] = pod("Deployment", "greeter")["volumes"]
    assert volume["emptyDir"] == {}
