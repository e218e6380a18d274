"""What the files that deploy the fleet of the examples say."""

from __future__ import annotations

import re
from typing import Any

import pytest

import tofu_aio as tofu

from .programs import EXAMPLES

yaml = pytest.importorskip("yaml", reason="PyYAML is not installed: pip install PyYAML")

FOLDER = EXAMPLES / "fleet"
PASSWORD = "s3cret"
SOCKET = "uds:///tmp/greeter"
"""Where an instance answers its health checks."""


class Strict(yaml.SafeLoader):  # type: ignore[misc,name-defined]
    """Refuses a key that occurs twice, of which YAML would silently take the last."""

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        keys = [key.value for key, _ in node.value if key.value != "<<"]
        assert len(keys) == len(set(keys)), f"{keys} has one twice, in line {node.start_mark.line}"
        return super().construct_mapping(node, deep)


def read(name: str) -> list[Any]:
    """The documents of a file."""
    return list(yaml.load_all((FOLDER / name).read_text("utf-8"), Strict))


COMPOSE: dict[str, Any] = read("compose.yaml")[0]
OBJECTS: dict[tuple[str, str], Any] = {
    (each["kind"], each["metadata"]["name"]): each for each in read("kubernetes.yaml")
}
DOCKERFILE = (FOLDER / "Dockerfile").read_text("utf-8")


def drain() -> float:
    """Seconds that the service may take to end its calls."""
    found = re.search(
        r"^DRAIN = ([\d.]+)", (FOLDER / "service.py").read_text("utf-8"), re.MULTILINE
    )
    assert found is not None
    return float(found[1])


def pod(kind: str, name: str) -> Any:
    """What a Deployment or a StatefulSet has in its pods."""
    return OBJECTS[kind, name]["spec"]["template"]["spec"]


def container(kind: str, name: str) -> Any:
    """The only container of such a pod."""
    [only] = pod(kind, name)["containers"]
    return only


def variables(kind: str, name: str) -> dict[str, str]:
    """The environment of its container. It has the password from the Secret."""
    found: dict[str, str] = {}
    for each in container(kind, name)["env"]:
        if "valueFrom" in each:
            source = each["valueFrom"]["secretKeyRef"]
            assert source["key"] in OBJECTS["Secret", source["name"]]["stringData"]
            found[each["name"]] = PASSWORD
        else:  # only variables that come before are put in
            found[each["name"]] = re.sub(r"\$\((\w+)\)", lambda m: found[m[1]], each["value"])
    return found


def greeter_address(name: str) -> tofu.NatsAddress:
    """The address at which the programs meet."""
    if name == "compose.yaml":
        text = COMPOSE["services"]["greeter"]["environment"]["GREETER"]
        text = text.replace("${FLEET_PASSWORD}", PASSWORD)
    else:
        text = variables("Deployment", "greeter")["GREETER"]
    address = tofu.parse_address(text)
    assert isinstance(address, tofu.NatsAddress)
    return address


def broker_config(name: str) -> str:
    """The configuration of the brokers."""
    if name == "compose.yaml":
        text: str = COMPOSE["configs"]["broker.conf"]["content"]
        assert "$" not in text.replace("$$", ""), "compose would put its own variables in"
        return text.replace("$$", "$")
    return str(OBJECTS["ConfigMap", "broker"]["data"]["broker.conf"])


def broker_names(name: str) -> list[str]:
    """The hosts of the brokers."""
    if name == "compose.yaml":
        return [each for each in COMPOSE["services"] if each.startswith("broker")]
    brokers = OBJECTS["StatefulSet", "broker"]["spec"]
    service = brokers["serviceName"]
    assert OBJECTS["Service", service]["spec"]["clusterIP"] == "None"  # so pods have names
    return [f"broker-{number}.{service}" for number in range(brokers["replicas"])]


def probes() -> list[list[str]]:
    """The commands by which Docker and Kubernetes ask an instance whether it is well."""
    greeter = container("Deployment", "greeter")
    docker = COMPOSE["services"]["greeter"]["healthcheck"]["test"]
    assert docker[0] == "CMD"
    return [
        docker[1:],
        *(greeter[f"{kind}Probe"]["exec"]["command"] for kind in ("readiness", "liveness")),
    ]
