"""Files that appear complete or not at all."""

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


def test_a_file_that_appears_meanwhile_is_replaced_only_with_force(tmp_path: Path) -> None:
    target = tmp_path / "file"
    with pytest.raises(Failure, match="exists"), whole_file(target, force=False):
        target.write_bytes(b"precious")
    assert target.read_bytes() == b"precious"
    with whole_file(target, force=True) as file:
        file.write(b"tofu")
    assert target.read_bytes() == b"tofu"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@unix
def test_its_permissions_are_those_of_any_new_file(tmp_path: Path) -> None:
    (tmp_path / "other").touch()
    with whole_file(tmp_path / "file", force=False):
        pass
    modes = {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert len(modes) == 1


@unix
def test_a_link_stays_one_and_its_file_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"old")
    (tmp_path / "link").symlink_to("file")
    target = checked_target(tmp_path / "link", force=True)
    with whole_file(target, force=True) as file:
        file.write(b"tofu")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "file").read_bytes() == b"tofu"


@unix
@pytest.mark.parametrize("force", [False, True])
def test_a_link_to_a_missing_file_is_refused(tmp_path: Path, force: bool) -> None:
    (tmp_path / "link").symlink_to("elsewhere")
    with pytest.raises(
        Failure, match="link is a symbolic link to a missing file: choose another name"
    ):
        checked_target(tmp_path / "link", force=force)


@unix
@pytest.mark.parametrize("mode", [0o600, 0o644, 0o660])
def test_the_permissions_of_a_replaced_file_are_kept_and_are_never_wider(
    tmp_path: Path, mode: int
) -> None:
    target = tmp_path / "file"
    target.write_bytes(b"old")
    target.chmod(mode)
    with whole_file(target, force=True) as file:
        file.write(b"tofu")
        (partial,) = set(tmp_path.iterdir()) - {target}
        assert stat.S_IMODE(partial.stat().st_mode) & ~mode == 0
    assert stat.S_IMODE(target.stat().st_mode) == mode
    assert target.read_bytes() == b"tofu"


@pytest.mark.skipif(
    sys.platform == "win32" or os.geteuid() != 0, reason="only root can change the owner of a file"
)
def test_the_owner_of_a_replaced_file_is_kept(tmp_path: Path) -> None:
    target = tmp_path / "file"
    target.write_bytes(b"old")
    os.chown(target, 1234, 5678)
    with whole_file(target, force=True):
        pass
    assert (target.stat().st_uid, target.stat().st_gid) == (1234, 5678)


@pytest.mark.skipif(
    sys.platform == "win32" or os.geteuid() == 0, reason="root can write everywhere"
)
def test_a_folder_that_may_not_be_written(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(Failure, match="is not writable: choose another one"):
        checked_target(tmp_path / "file", force=False)
