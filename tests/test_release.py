"""The version and the changelog agree, PyPI can show the README, and what is wrong is found."""

from __future__ import annotations

import re
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

import tofu_aio as tofu
from tests.release import (
    Section,
    dead_links,
    disagreement,
    files_in,
    metadata_of,
    problems_of_files,
    problems_of_tag,
    sections,
)

ROOT = Path(__file__).parents[1]
CHANGELOG = (ROOT / "CHANGELOG.md").read_text("utf-8")
README = (ROOT / "README.md").read_text("utf-8")
LINK = re.compile(r"\]\(([^)]*)\)|(?:src|href)=\"([^\"]*)\"")
CODE = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)


def on_pypi(text: str) -> str:
    """Replace in a text what the build replaces in the README."""
    hook = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["hatch"]["metadata"]
    for substitution in hook["hooks"]["fancy-pypi-readme"]["substitutions"]:
        text = re.sub(substitution["pattern"], substitution["replacement"], text)
    return text


def test_the_changelog_is_of_this_version() -> None:
    assert disagreement(tofu.__version__, CHANGELOG) is None


@pytest.mark.parametrize(
    ("version", "headings"),
    [
        ("1.2.0", ["1.2.0 - 2030-01-02", "1.1.0 - 2029-01-02"]),
        ("1.2.0", ["[1.2.0] - 2030-01-02"]),
        ("1.2.0.dev1", ["1.2.0 - unreleased", "1.1.0 - 2029-01-02"]),
        ("1.2.0", ["Unreleased", "1.1.9 - 2029-01-02"]),
        ("1.10.0.dev1", ["[Unreleased]", "1.9.0 - 2029-01-02"]),
        ("0.1.0", ["Unreleased"]),
    ],
)
def test_a_version_and_a_changelog_that_agree(version: str, headings: list[str]) -> None:
    assert disagreement(version, "".join(f"## {text}\n" for text in headings)) is None


@pytest.mark.parametrize(
    ("version", "headings", "problem"),
    [
        ("1.2.0", ["1.1.0 - 2029-01-02"], "begins with 1.1.0: begin it with 1.2.0"),
        ("1.1.0", ["1.2.0 - 2029-01-02"], "begins with 1.2.0: begin it with 1.1.0"),
        ("1.2.0", [], "begins with no section"),
        ("1.1.0", ["Unreleased", "1.1.0 - 2029-01-02"], "raise __version__ above 1.1.0"),
        ("1.9.0", ["Unreleased", "1.10.0 - 2029-01-02"], "raise __version__ above 1.10.0"),
    ],
)
def test_a_version_and_a_changelog_that_do_not(
    version: str, headings: list[str], problem: str
) -> None:
    assert problem in str(disagreement(version, "".join(f"## {text}\n" for text in headings)))


def test_a_heading_that_names_no_section_is_refused() -> None:
    with pytest.raises(ValueError, match=r"'## Soon'; use '## Unreleased' or '## 1\.2\.3 - 2030-"):
        sections("## Soon\n")


def test_sections_are_told_from_what_is_in_them() -> None:
    text = "# Changelog\n\n## Unreleased\n\n### Added\n\n## 0.1.0 - 2030-01-02\n"
    assert sections(text) == [Section("Unreleased", ""), Section("0.1.0", "2030-01-02")]


@pytest.mark.parametrize(
    ("tag", "heading", "problems"),
    [
        ("v1.2.0", "1.2.0 - 2030-01-02", []),
        ("v1.2.1", "1.2.0 - 2030-01-02", ["the tag is v1.2.1, but the package's version is 1.2.0"]),
        ("1.2.0", "1.2.0 - 2030-01-02", ["tag v1.2.0, or change __version__"]),
        ("v1.2.0", "1.1.0 - 2030-01-02", ["no section for 1.2.0"]),
        ("v1.2.0", "Unreleased", ["no section for 1.2.0"]),
        ("v1.2.0", "1.2.0 - unreleased", ["dates 1.2.0 'unreleased'"]),
        ("v1.2.0", "1.2.0", ["dates 1.2.0 ''"]),
        ("v1.2.0", "1.2.0 - 2030-13-02", ["dates 1.2.0 '2030-13-02'"]),
        ("v1.3.0", "1.1.0", ["the tag is v1.3.0", "no section for 1.2.0"]),
    ],
)
def test_what_may_be_published(tag: str, heading: str, problems: list[str]) -> None:
    found = list(problems_of_tag(tag, "1.2.0", f"## {heading}\n"))
    assert len(found) == len(problems)
    assert all(part in problem for part, problem in zip(problems, found, strict=True))


def test_links_that_need_the_repository_are_found() -> None:
    page = (
        '<h1 id="top">x</h1><a href="#top">a</a><a href="#end">b</a><a href="https://x.org/">c</a>'
        '<a href="LICENSE">d</a><img src="docs/a.svg"><a href="mailto:a@x.org">e</a>'
    )
    assert dead_links(page) == ["#end", "LICENSE", "docs/a.svg"]


def test_on_pypi_the_readme_leads_to_the_files_of_its_version() -> None:
    repository = "github.com/g41797/tofu_aio"
    for text, there in (
        ("[a](docs/index.md)", f"[a](https://{repository}/blob/v$HFPR_VERSION/docs/index.md)"),
        ("![a](b.svg)", f"![a](https://raw.{repository.replace('.com', 'usercontent.com')}"),
        ('<img alt="" src="b.svg">', '<img alt="" src="https://raw.'),
        ("[![a](b.svg)](c.md)", "](https://github.com/g41797/tofu_aio/blob/v$HFPR_VERSION/c.md)"),
    ):
        assert there in on_pypi(text)
    for text in ("[a](https://x.org/)", "[a](#b)", '<a href="http://x.org">', "![a](http://x.org)"):
        assert on_pypi(text) == text


def test_the_readme_s_links_are_replaced_and_its_code_is_not() -> None:
    shown = on_pypi(README)
    targets = [first or second for first, second in LINK.findall(CODE.sub("", shown))]
    assert targets
    assert [target for target in targets if not target.startswith(("https://", "#"))] == []
    assert CODE.findall(shown) == CODE.findall(README)


def test_metadata_is_that_of_the_wheel(tmp_path: Path) -> None:
    wheel = tmp_path / "a-1.whl"
    with zipfile.ZipFile(wheel, "w") as files:
        files.writestr("a/METADATA", "Version: 2\n")
        files.writestr("a-1.dist-info/METADATA", "Version: 1\n\nthe readme\n")
    metadata = metadata_of(wheel)
    assert metadata["Version"] == "1"
    assert metadata.get_payload() == "the readme\n"


CORE = "tofu_aio/core/_compiled"
LINUX = f"{CORE}.cpython-312-x86_64-linux-gnu.so"
WINDOWS = f"{CORE}.cp312-win_amd64.pyd"


@pytest.mark.parametrize(
    ("name", "files", "problems"),
    [
        ("a-1-py3-none-any.whl", ["tofu_aio/core/plain.py"], []),
        ("a-1-cp312-cp312-linux_x86_64.whl", [LINUX], []),
        ("a-1-cp312-cp312-win_amd64.whl", [WINDOWS], []),
        ("a-1.tar.gz", [f"a-1/{CORE}.pyx"], []),
        ("a-1-py3-none-any.whl", [LINUX], ["has the compiled core 1 times, not 0"]),
        ("a-1-py3-none-any.whl", [f"{CORE}.pyx"], ["has its source 1 times, not 0"]),
        ("a-1-cp312-cp312-win_amd64.whl", [], ["has the compiled core 0 times, not 1"]),
        ("a-1-cp312-cp312-win_amd64.whl", [LINUX, WINDOWS], ["2 times, not 1"]),
        ("a-1.tar.gz", [], ["has its source 0 times, not 1"]),
        ("a-1.tar.gz", [f"a-1/{CORE}.pyx", f"a-1/{LINUX}"], ["1 times, not 0"]),
        ("a-1.tar.gz", [f"a-1/{CORE}.pyx", f"a-1/{CORE}.c"], [f"has a-1/{CORE}.c, made from it"]),
    ],
)
def test_where_the_compiled_core_is(name: str, files: list[str], problems: list[str]) -> None:
    found = list(problems_of_files(name, files))
    assert len(found) == len(problems)
    assert all(part in problem for part, problem in zip(problems, found, strict=True))


def test_files_are_those_of_the_archive(tmp_path: Path) -> None:
    wheel, sdist = tmp_path / "a-1.whl", tmp_path / "a-1.tar.gz"
    with zipfile.ZipFile(wheel, "w") as files:
        files.writestr("a/b.py", "")
    with tarfile.open(sdist, "w:gz") as files:
        files.addfile(tarfile.TarInfo("a-1/b.py"))
    assert files_in(wheel) == ["a/b.py"]
    assert files_in(sdist) == ["a-1/b.py"]
