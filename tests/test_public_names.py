"""The public names of the package, and nothing else."""

from __future__ import annotations

import subprocess
import sys

import pytest

import tofu_aio as tofu

POLICIES = {"EventLoopPolicy", "install"}
"""Not in ``__all__``: asyncio may have no policies."""


def test_all_names_exist_and_none_is_forgotten() -> None:
    # Those with an @ are pytest's, which rewrites the package because it has a plugin.
    public = {name for name in vars(tofu) if not name.startswith(("_", "@"))}
    modules = {
        "accepting",
        "blocking",
        "checks",
        "cli",
        "core",
        "forks",
        "messaging",
        "protocol",
        "reactor",
        "service",
        "testing",
        "transport",
        "rare_warnings",
        "worker_threads",
    }
    others = {"TYPE_CHECKING", "import_module"}
    later = set(tofu._LATER) - POLICIES
    assert public - modules - others | later == set(tofu.__all__)
    for name in later:
        assert getattr(tofu, name) is not None


def test_a_name_that_needs_msgspec_says_so_where_it_is_missing() -> None:
    code = (
        "import sys; sys.modules['msgspec'] = None\n"
        "import tofu_aio as tofu\n"
        "try:\n    tofu.Service\n"
        "except ImportError as error:\n    print(error)"
    )
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "pip install 'tofu-aio[service]'" in run.stdout


@pytest.mark.parametrize(
    "error", [e for e in vars(tofu.protocol.errors).values() if isinstance(e, type)]
)
def test_every_error_is_public(error: type) -> None:
    if issubclass(error, tofu.TofuError):
        assert getattr(tofu, error.__name__) is error


def test_importing_brings_no_command_line_and_no_warning() -> None:
    code = (
        "import sys, tofu_aio; "
        "print(sorted({'click', 'rich', 'uvloop', 'hypothesis', 'msgspec'} & set(sys.modules)))"
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
