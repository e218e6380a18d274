"""Files that appear whole or not at all."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

import pytest

from tests.cli.processes import unix
from tofu_aio.cli.errors import Failure
from tofu_aio.cli.files import checked_target, whole_file


def test_it_appears_at_the_end(tmp_path: Path) -> None:
    target = checked_target(tmp_path / "file", force=False)
    with whole_file(target, force=False) as file:
        file.write(b"tofu")
        assert not target.exists()
        assert len(list(tmp_path.iterdir())) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert target.read_bytes() == b"tofu"


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_a_failure_leaves_nothing(tmp_path: Path, error: type[BaseException]) -> None:
    def fail() -> None:
        with whole_file(tmp_path / "file", force=True) as file:
            file.write(b"tofu")
            raise error

    with pytest.raises(error):
        fail()
    assert not list(tmp_path.iterdir())


def test_what_comes_meanwhile_is_replaced_only_by_force(tmp_path: Path) -> None:
    target = tmp_path / "file"
    with pytest.raises(Failure, match="exists"), whole_file(target, force=False):
        target.write_bytes(b"precious")
    assert target.read_bytes() == b"precious"
    with whole_file(target, force=True) as file:
        file.write(b"tofu")
    assert target.read_bytes() == b"tofu"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@unix
def test_its_rights_are_those_of_any_new_file(tmp_path: Path) -> None:
    (tmp_path / "other").touch()
    with whole_file(tmp_path / "file", force=False):
        pass
    modes = {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert len(modes) == 1


@unix
def test_a_link_stays_one(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("file")
    target = checked_target(tmp_path / "link", force=False)
    with whole_file(target, force=False) as file:
        file.write(b"tofu")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "file").read_bytes() == b"tofu"


@pytest.mark.skipif(
    sys.platform == "win32" or os.geteuid() == 0, reason="may write everywhere, or cannot tell"
)
def test_a_folder_that_may_not_be_written(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(Failure, match="nothing may be written"):
        checked_target(tmp_path / "file", force=False)
