"""The unit files and the Containerfile of the page *Run in production* are valid."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from configparser import ConfigParser
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[1] / "docs" / "howto" / "production.md"
PYTHON = "/opt/shop/venv/bin/python"
"""That of the units, which is not there when the page is tested."""

INSTRUCTIONS = {
    "CMD",
    "COPY",
    "EXPOSE",
    "FROM",
    "HEALTHCHECK",
    "RUN",
    "USER",
    "WORKDIR",
}


def blocks(language: str) -> list[str]:
    """The blocks of the page in a language."""
    return re.findall(
        rf"^```{language}\n(.*?)^```$", PAGE.read_text("utf-8"), re.DOTALL | re.MULTILINE
    )


def units() -> dict[str, str]:
    """The unit files by name, which their first line tells."""
    return {Path(text.splitlines()[0].removeprefix("# ")).name: text for text in blocks("ini")}


def parsed(text: str) -> ConfigParser:
    """A unit file, without the keys that stand several times."""
    parser = ConfigParser(strict=False, interpolation=None)
    parser.read_string(text)
    return parser


def test_both_units_are_there() -> None:
    assert sorted(units()) == ["shop.service", "shop.socket"]


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd is not installed")
def test_systemd_takes_the_units(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in units()]
    for path in paths:
        path.write_text(units()[path.name].replace(PYTHON, sys.executable))
    run = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *paths],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    said = [line for line in run.stderr.splitlines() if "shop" in line or str(tmp_path) in line]
    assert (run.returncode, said) == (0, [])


def test_the_service_has_more_time_to_stop_than_it_needs_to_drain() -> None:
    service = parsed(units()["shop.service"])["Service"]
    assert PYTHON in service["ExecStart"]
    assert int(service["TimeoutStopSec"]) > 30


def test_the_socket_belongs_to_the_service() -> None:
    socket = parsed(units()["shop.socket"])
    assert socket["Install"]["WantedBy"] == "sockets.target"
    text = PAGE.read_text("utf-8")
    descriptors = re.findall(r"fd://(\d+)", text.partition("### Socket activation")[2])
    listened = units()["shop.socket"].count("ListenStream=")
    assert {int(each) for each in descriptors} == set(range(3, 3 + listened))


def test_the_container_file_has_instructions_and_commands_without_a_shell() -> None:
    [text] = blocks("dockerfile")
    text = text.replace("\\\n", "")
    lines = [line.split(maxsplit=1) for line in text.splitlines()]
    assert {name for name, _ in lines} == INSTRUCTIONS
    assert lines[0][0] == "FROM"
    assert [rest[0] for name, rest in lines if name == "CMD"] == ["["]
    assert re.search(r"^HEALTHCHECK .* CMD +\[.*\]$", text, re.MULTILINE)
