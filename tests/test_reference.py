"""The reference tells of every public name, and of none that is not."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import tofu_aio as tofu
from tofu_aio import blocking, testing
from tofu_aio.protocol import errors

PAGES = Path(__file__).parent.parent / "docs" / "reference"
ENTRY = re.compile(r"^::: ([\w.]+)$", re.MULTILINE)

PUBLIC = {
    *(f"tofu_aio.{name}" for name in tofu.__all__),
    *(f"tofu_aio.{name}" for name in ("EventLoopPolicy", "install")),  # where asyncio has policies
    *(f"tofu_aio.blocking.{name}" for name in blocking.__all__),
    *(f"tofu_aio.testing.{name}" for name in testing.__all__),
}


def entries() -> Iterator[str]:
    """What stands on the pages of the reference; a module stands for all the errors in it."""
    for page in sorted(PAGES.glob("*.md")):
        for name in ENTRY.findall(page.read_text(encoding="utf-8")):
            if name == errors.__name__:
                yield from (
                    f"tofu_aio.{each}"
                    for each, value in vars(errors).items()
                    if isinstance(value, type) and issubclass(value, tofu.TofuError)
                )
            elif not is_module(name):
                yield name


def is_module(name: str) -> bool:
    try:
        import_module(name)
    except ModuleNotFoundError:
        return False
    return True


def test_every_public_name_stands_in_the_reference_and_nothing_else() -> None:
    found = list(entries())
    assert PUBLIC - set(found) == set(), "is missing"
    assert set(found) - PUBLIC == set(), "is not public"
    assert len(found) == len(set(found)), "stands twice"
