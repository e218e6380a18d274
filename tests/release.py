"""What a release must be: ``python -m tests.release FILE... [TAG]``.

It reads wheels and sdists, prints what is wrong with them, and exits with 1 if anything is.
"""

from __future__ import annotations

import email
import re
import sys
import tarfile
import zipfile
from collections import Counter
from collections.abc import Iterator
from datetime import date
from email.message import Message
from html.parser import HTMLParser
from pathlib import Path
from typing import NamedTuple

from packaging.version import Version

ROOT = Path(__file__).parents[1]
UNRELEASED = "Unreleased"


class Section(NamedTuple):
    """One section of the changelog, as its heading names it."""

    version: str
    """A version, or "Unreleased"."""

    date: str
    """As it is written; "" if there is none."""


def sections(changelog: str) -> list[Section]:
    """Return the sections of a changelog in their order, which is newest first.

    Raises:
        ValueError: A heading of the second level is not one of a section.
    """
    found = []
    for heading in re.findall(r"^## (.*)$", changelog, re.MULTILINE):
        match = re.fullmatch(r"\[?(Unreleased|\d+\.\d+\.\d+)\]?(?: - (\S+))?", heading)
        if match is None:
            raise ValueError(
                f"CHANGELOG.md has the heading '## {heading}'; "
                "use '## Unreleased' or '## 1.2.3 - 2030-12-31'"
            )
        found.append(Section(match[1], match[2] or ""))
    return found


def disagreement(version: str, changelog: str) -> str | None:
    """Return how the package's version contradicts the changelog, or None.

    The newest section is that of the version, or it is "Unreleased", and then the version is newer
    than each one that the changelog has.
    """
    base = Version(version).base_version
    newest, *older = sections(changelog) or [Section("", "")]
    if newest.version == base:
        return None
    if newest.version != UNRELEASED:
        return (
            f"the version is {version}, but CHANGELOG.md begins with "
            f"{newest.version or 'no section'}: begin it with {base} or with {UNRELEASED}"
        )
    if older and Version(base) <= Version(older[0].version):
        return (
            f"CHANGELOG.md has unreleased changes after {older[0].version}, but the version is "
            f"{version}: raise __version__ above {older[0].version}"
        )
    return None


def problems_of_tag(tag: str, version: str, changelog: str) -> Iterator[str]:
    """Yield what forbids to publish this version under this tag."""
    if tag != f"v{version}":
        yield (
            f"the tag is {tag}, but the package's version is {version}: "
            f"tag v{version}, or change __version__ and tag again"
        )
    released = {section.version: section.date for section in sections(changelog)}
    if version not in released:
        yield f"CHANGELOG.md has no section for {version}: head it '## {version} - YYYY-MM-DD'"
    elif not _is_date(released[version]):
        yield (
            f"CHANGELOG.md dates {version} {released[version]!r}: "
            f"head its section '## {version} - YYYY-MM-DD'"
        )


def _is_date(text: str) -> bool:
    try:
        return date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False


class _Targets(HTMLParser):
    """Collects what a page links to and shows, and the ids it has."""

    def __init__(self) -> None:
        super().__init__()
        self.targets: list[str] = []
        self.ids: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in {"href", "src"}:
                self.targets.append(value or "")
            elif name == "id":
                self.ids.add(value or "")


def dead_links(page: str) -> list[str]:
    """Return the targets of an HTML page that lead nowhere if it stands alone, as on PyPI."""
    found = _Targets()
    found.feed(page)
    there = {f"#{name}" for name in found.ids}
    return [
        target
        for target in found.targets
        if not re.match("https?://|mailto:", target) and target not in there
    ]


def metadata_of(wheel: Path) -> Message:
    """Return the metadata of a wheel; its payload is the README."""
    with zipfile.ZipFile(wheel) as files:
        (name,) = (name for name in files.namelist() if name.endswith(".dist-info/METADATA"))
        return email.message_from_bytes(files.read(name))


def page_of(metadata: Message) -> str:
    """Return the README as PyPI shows it: as HTML."""
    from readme_renderer import markdown

    readme = metadata.get_payload(decode=True)
    assert isinstance(readme, bytes)
    page = markdown.render(readme.decode())
    assert page is not None, "readme-renderer needs its extra md"
    return page


def problems_of_files(name: str, files: list[str]) -> Iterator[str]:
    """Yield what an archive has and should not have, or the other way round.

    A wheel is compiled, and its name says for what, or it is for all and is not. An sdist has the
    source of the compiled core, and nothing that was made from it.
    """
    found = Counter(Path(file).suffix for file in files if "/core/_compiled" in f"/{file}")
    extensions, sources = found[".so"] + found[".pyd"], found[".pyx"]
    if not name.endswith(".whl"):
        wanted = {"the compiled core": (extensions, 0), "its source": (sources, 1)}
    else:
        compiled = not name.endswith("-py3-none-any.whl")
        wanted = {"the compiled core": (extensions, int(compiled)), "its source": (sources, 0)}
    for what, (there, right) in wanted.items():
        if there != right:
            yield f"{name} has {what} {there} times, not {right}"
    yield from (f"{name} has {file}, made from it" for file in files if file.endswith(".c"))


def files_in(archive: Path) -> list[str]:
    """Return the names of the files in a wheel or an sdist."""
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as files:
            return files.namelist()
    with tarfile.open(archive) as files:
        return files.getnames()


def problems(archives: list[Path], tag: str | None) -> Iterator[str]:
    """Yield what is wrong with what was built."""
    for archive in archives:
        yield from problems_of_files(archive.name, files_in(archive))
    for wheel in [archive for archive in archives if archive.suffix == ".whl"]:
        yield from problems_of_wheel(wheel, tag)


def problems_of_wheel(wheel: Path, tag: str | None) -> Iterator[str]:
    """Yield what is wrong with the metadata of a wheel."""
    metadata = metadata_of(wheel)
    version = metadata["Version"]
    changelog = (ROOT / "CHANGELOG.md").read_text("utf-8")
    if (contradiction := disagreement(version, changelog)) is not None:
        yield contradiction
    if tag is not None:
        yield from problems_of_tag(tag, version, changelog)
    for target in dead_links(page_of(metadata)):
        yield (
            f"README.md leads to {target!r}, which PyPI does not have: link to a file of the "
            "repository or to an address; see fancy-pypi-readme in pyproject.toml"
        )


def main() -> int:
    """Print each problem; return 1 if there is one."""
    archives = [Path(name) for name in sys.argv[1:] if name.endswith((".whl", ".tar.gz"))]
    tag = sys.argv[-1] if sys.argv[1 + len(archives) :] else None
    found = list(problems(archives, tag))
    for problem in found:
        print(problem, file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
