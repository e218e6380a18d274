"""The documentation's site: a mistake ends its build, and it needs nothing from elsewhere.

The site is built once, from a copy with a page of mistakes. ``nox -s docs`` runs this.
"""

from __future__ import annotations

import enum
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

import pytest

import tofu_aio as tofu

ROOT = Path(__file__).parent.parent
TOOLS = ("sphinx", "furo", "myst_parser", "sphinx_click", "sphinx_copybutton")
MISSING = [tool for tool in TOOLS if find_spec(tool) is None]
if MISSING:
    pytest.skip(
        f"no {', '.join(MISSING)}: `nox -s docs` runs this with all it needs",
        allow_module_level=True,
    )

pytestmark = pytest.mark.timeout(360)  # the first test builds the site

MISTAKES = {
    "[page](nowhere.md)": "cross-reference target not found: 'nowhere.md'",
    "[anchor](tutorial.md#nowhere)": "local id not found in doc 'tutorial': 'nowhere'",
    "[its own anchor](#nothing)": "cross-reference target not found: 'nothing'",
    "[file](../examples/nowhere.py)": "cross-reference target not found: '../examples/nowhere.py'",
    "![image](nowhere.svg)": "image file not readable: nowhere.svg",
    "{py:class}`tofu_aio.Nothing`": "py:class reference target not found: tofu_aio.Nothing",
    "{py:class}`Nobody`": "py:class reference target not found: Nobody",
    "```{eval-rst}\n.. autoclass:: tofu_aio.Never\n```": "'Never'",
    '```python\n--8<-- "examples/nowhere.py"\n```': "cannot embed examples/nowhere.py",
    "": "document isn't included in any toctree",
}


class Page(HTMLParser):
    """What a page links to, what it loads, and its anchors."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.anchors = {""}
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self.anchors.add(found.get("id", ""))
        if "src" in found:
            self.loads.append(found["src"])
        if "href" in found:
            loaded = tag == "link" and "stylesheet" in found.get("rel", "")
            (self.loads if loaded else self.links).append(found["href"])


class Site(NamedTuple):
    folder: Path
    exit_code: int
    output: str

    def pages(self) -> Iterator[tuple[Path, Page]]:
        for path in sorted(self.folder.rglob("*.html")):
            if path.name != "planted.html":
                yield path, Page(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Site:
    root = tmp_path_factory.mktemp("repository")
    for name in ("docs", "examples"):
        shutil.copytree(ROOT / name, root / name)
    shutil.copy(ROOT / "CHANGELOG.md", root)
    planted = "\n\n".join(["# Planted", *MISTAKES])
    (root / "docs" / "planted.md").write_text(planted, encoding="utf-8")
    command = [sys.executable, "-m", "sphinx", "--quiet", "--fail-on-warning", "docs", "site"]
    ended = subprocess.run(
        command, check=False, cwd=root, capture_output=True, text=True, timeout=300
    )
    return Site(root / "site", ended.returncode, ended.stderr)


@pytest.mark.parametrize("warning", MISTAKES.values())
def test_a_mistake_ends_the_build(site: Site, warning: str) -> None:
    assert warning in site.output
    assert site.exit_code == 1


def test_nothing_but_the_planted_mistakes_is_wrong(site: Site) -> None:
    warnings = [line for line in site.output.splitlines() if "WARNING" in line or "ERROR" in line]
    assert warnings
    assert [line for line in warnings if "planted" not in line and "Never" not in line] == []


def test_every_link_leads_somewhere(site: Site) -> None:
    pages = dict(site.pages())
    broken = []
    for path, page in pages.items():
        for link in (*page.links, *page.loads):
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            there = pages.get(target)
            if not target.is_file() or (there and unquote(parts.fragment) not in there.anchors):
                broken.append(f"{path.relative_to(site.folder)}: {link}")
    assert broken == []


def test_nothing_is_loaded_from_elsewhere(site: Site) -> None:
    for path, page in site.pages():
        assert [url for url in page.loads if urlsplit(url).netloc] == [], path
    for style in site.folder.rglob("*.css"):
        assert not re.search(r"url\(['\"]?(https?:)?//", style.read_text(encoding="utf-8")), style


def test_the_members_of_every_enum_are_in_the_reference(site: Site) -> None:
    anchors = {anchor for _, page in site.pages() for anchor in page.anchors}
    enums = [
        each for each in map(tofu.__dict__.get, tofu.__all__) if isinstance(each, enum.EnumMeta)
    ]
    members = {f"tofu_aio.{each.__name__}.{member.name}" for each in enums for member in each}
    assert members - anchors == set()


def test_what_is_not_for_users_is_not_in_the_reference(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(ROOT / "docs")
    internal = import_module("site_extension").INTERNAL
    anchors = {anchor for _, page in site.pages() for anchor in page.anchors}
    for owner, members in internal.items():
        assert owner in anchors
        assert anchors & {f"{owner}.{member}" for member in members} == set()
        source = Path(sys.modules[getattr(tofu, owner.split(".")[1]).__module__].__file__ or "")
        text = source.read_text(encoding="utf-8")
        gone = [name for name in members if not re.search(rf"def {name}\(|self\.{name} = ", text)]
        assert not gone, f"site_extension.py lists {gone} of {owner}, which it has no longer"
