"""Files with secrets."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.processes import Run


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "is empty: write a secret"),
        ("\n", "is empty"),
        ("x" * 5000, "is this the file with the secret?"),
    ],
)
def test_a_file_without_a_secret(tofu_run: Run, tmp_path: Path, content: str, reason: str) -> None:
    (tmp_path / "secret").write_text(content)
    ended = tofu_run("receive", "tcp://127.0.0.1:0", "-o", "copy", "--secret-file", "secret")
    assert (ended.code, ended.out) == (1, "")
    assert reason in ended.complaint
