"""The public names of the package, and nothing else."""

from __future__ import annotations

import subprocess
import sys

import pytest

import tofu_aio as tofu


def test_all_names_exist_and_none_is_forgotten() -> None:
    public = {name for name, value in vars(tofu).items() if not name.startswith("_")}
    modules = {
        "accepting",
        "blocking",
        "checks",
        "cli",
        "forks",
        "messaging",
        "protocol",
        "reactor",
        "testing",
        "transport",
        "worker_threads",
    }
    assert public - modules - {"TYPE_CHECKING"} == set(tofu.__all__)


@pytest.mark.parametrize(
    "error", [e for e in vars(tofu.protocol.errors).values() if isinstance(e, type)]
)
def test_every_error_is_public(error: type) -> None:
    if issubclass(error, tofu.TofuError):
        assert getattr(tofu, error.__name__) is error


def test_importing_brings_no_command_line_and_no_warning() -> None:
    code = (
        "import sys, tofu_aio; "
        "print(sorted({'click', 'rich', 'uvloop', 'hypothesis'} & set(sys.modules)))"
    )
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (run.stdout.strip(), run.stderr) == ("[]", "")


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no_such_name"):
        tofu.no_such_name  # noqa: B018
