"""What the documentation's site needs beyond Sphinx.

Files embedded in pages, links from public names to the reference, Google's docstrings, signatures
that show real defaults, and the help of the command.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Final

from docutils import nodes
from sphinx import addnodes
from sphinx.ext.napoleon import Config, GoogleDocstring
from sphinx.transforms import SphinxTransform
from sphinx.util import logging

import tofu_aio
from tofu_aio.protocol.errors import ERRORS
from tofu_aio.protocol.status import Status

if TYPE_CHECKING:
    import click
    from sphinx.application import Sphinx
    from sphinx.environment import BuildEnvironment

logger = logging.getLogger(__name__)

ROOT: Final = Path(__file__).parent.parent

MODULES: Final = ("tofu_aio", "tofu_aio.blocking", "tofu_aio.testing")

INTERNAL: Final = {
    "tofu_aio.Connecting": {"close", "send", "throw"},
    "tofu_aio.Exchange": {"asks"},
    "tofu_aio.Listening": {"close", "send", "throw"},
    "tofu_aio.Topic": {"add", "content_type", "remove", "ring", "start"},
}
"""Attributes without an underscore that exist for other modules, and are not for users."""

# They are imported for type checkers only, and Sphinx evaluates the annotations.
vars(import_module("tofu_aio.testing.services")).update(
    {name: getattr(tofu_aio, name) for name in ("Client", "Codec", "Service")}
)

NOT_CONSTRUCTED: Final = {"tofu_aio.Reconnecting"}
"""Classes whose constructor is described, but is not for users."""

# --- pages --------------------------------------------------------------------------------------

_SNIPPET: Final = re.compile(r'^--8<-- "(.+)"$', re.MULTILINE)


def embed(app: Sphinx, docname: str, source: list[str]) -> None:
    """Put in the files that a page names: a line ``--8<-- "examples/echo_server.py"``."""

    def text(match: re.Match[str]) -> str:
        path = ROOT / match[1]
        app.env.note_dependency(path, docname=docname)
        try:
            return path.read_text(encoding="utf-8").rstrip("\n")
        except OSError as error:
            logger.warning("cannot embed %s: %s", match[1], error, location=docname)
            return match[0]

    source[0] = _SNIPPET.sub(text, source[0])


# --- names --------------------------------------------------------------------------------------


def public_names() -> dict[str, str]:
    """The name to show of each public class or function, by the module in which it is written."""
    names = {}
    for module in map(import_module, MODULES):
        for name in module.__all__:
            value = getattr(module, name)
            if inspect.isclass(value) or inspect.isfunction(value):
                # What blocking takes over from tofu_aio has its place there.
                names.setdefault(
                    f"{value.__module__}.{value.__qualname__}", f"{module.__name__}.{name}"
                )
    return names


def resolve(
    app: Sphinx, env: BuildEnvironment, node: addnodes.pending_xref, content: nodes.TextElement
) -> nodes.Node | None:
    """Lead a reference to ``tofu_aio.messaging.engine.Engine`` to ``tofu_aio.Engine``."""
    if node.get("refdomain") != "py":
        return None
    target = node["reftarget"]
    public = _PUBLIC.get(target) or _PUBLIC.get(f"tofu_aio.protocol.errors.{target}")
    if public is None:
        return None
    domain = env.domains.python_domain
    return domain.resolve_xref(
        env, node["refdoc"], app.builder, node["reftype"], public, node, content
    )


class LinkNames(SphinxTransform):
    """Make links of public names in the text: ``Engine``, ``tofu.connect``, ``Channel.request``."""

    default_priority = 200

    def apply(self, **_: object) -> None:
        """Replace each such literal by a reference around it."""
        blocking = self.env.docname == "reference/blocking"
        for literal in list(self.document.findall(nodes.literal)):
            target = _target(literal.astext(), blocking=blocking)
            inside = (nodes.title, nodes.reference, addnodes.pending_xref, addnodes.desc_signature)
            if target is None or _within(literal, inside):
                continue
            reference = addnodes.pending_xref(
                "",
                refdomain="py",
                reftype="obj",
                reftarget=target,
                refexplicit=True,
                refdoc=self.env.docname,
                refwarn=True,
            )
            literal.replace_self(reference)
            reference += literal


def _within(node: nodes.Node, kinds: tuple[type[nodes.Node], ...]) -> bool:
    parent = node.parent
    while parent is not None:
        if isinstance(parent, kinds):
            return True
        parent = parent.parent
    return False


def _target(text: str, *, blocking: bool) -> str | None:
    """What a literal names, if that is a public class, a member of one, or ``tofu.function``."""
    name = text.removesuffix("()")
    prefixed = re.sub(r"^tofu\.", "tofu_aio.", name)
    if prefixed.startswith("tofu_aio."):
        candidates = [prefixed]
    elif name[:1].isupper():
        candidates = [f"tofu_aio.blocking.{name}"] if blocking else []
        candidates += [f"tofu_aio.{name}", f"tofu_aio.testing.{name}"]
    else:
        return None
    return next(filter(_is_shown, candidates), None)


def _is_shown(name: str) -> bool:
    """Whether the reference has this name."""
    if name in _SHOWN:
        return True
    owner, _, member = name.rpartition(".")
    if owner not in _SHOWN or member.startswith("_") or member in INTERNAL.get(owner, ()):
        return False
    module, _, class_name = owner.rpartition(".")
    value = getattr(import_module(module), class_name, None)
    return inspect.isclass(value) and bool(getattr(vars(value).get(member), "__doc__", None))


# --- docstrings ---------------------------------------------------------------------------------

_GOOGLE: Final = Config(napoleon_use_ivar=True, napoleon_use_rtype=False)
# Where a letter follows, as in ``Bye``s, reStructuredText wants a mark between.
_LITERAL: Final = re.compile(r"(``[^`]+``)(\w?)")


def docstring(  # noqa: PLR0917 - as autodoc calls it
    app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]
) -> None:
    """Turn a docstring of Google's style into fields."""
    # A property is no "attribute" here: napoleon takes what stands before its first colon for a
    # type.
    what = "method" if what in {"property", "attribute"} else what
    text = _LITERAL.sub(_separated, "\n".join(lines)).split("\n")
    lines[:] = GoogleDocstring(text, _GOOGLE, app, what, name, obj, options).lines()
    unwanted = [f":ivar {each}:" for each in INTERNAL.get(name, ())]
    if name in NOT_CONSTRUCTED:
        unwanted += [":param ", ":raises "]
    if obj is Status:
        lines += _statuses()
    lines[:] = map(_with_public_type, _without_fields(lines, unwanted))


def _separated(literal: re.Match[str]) -> str:
    return literal[1] + (f"\\ {literal[2]}" if literal[2] else "")


def _statuses() -> Iterator[str]:
    """Each status with its value, and the exception that it is raised as."""
    for status in Status:
        yield from (f".. py:attribute:: {status.name}", f"   :value: {status.value}", "")
        if (error := ERRORS.get(status)) is not None:
            about = (inspect.getdoc(error) or "").splitlines()[0]
            yield from (f"   ``{error.__name__}``: {about}", "")


def _without_fields(lines: list[str], unwanted: list[str]) -> Iterator[str]:
    dropping = False
    for line in lines:
        if line[:1].strip():
            dropping = line.startswith(tuple(unwanted))
        if not dropping:
            yield line


def _with_public_type(line: str) -> str:
    if not line.startswith(":vartype "):
        return line
    return re.sub(r"tofu_aio\.[\w.]+", lambda match: _PUBLIC.get(match[0], match[0]), line)


class Fields(SphinxTransform):
    """Name the fields of docstrings as their sections are named there, with real dashes."""

    default_priority = 210

    def apply(self, **_: object) -> None:
        """Change the texts in place."""
        for name in self.document.findall(nodes.field_name):
            if name.astext() == "Variables":
                name.children = [nodes.Text("Attributes")]
        for text in list(self.document.findall(nodes.Text)):
            if text.startswith(" -- ") and _within(text, (nodes.field_body,)):
                text.parent.replace(text, nodes.Text(f" \N{EN DASH} {text[4:]}"))


def skip(
    _app: Sphinx, _what: str, _name: str, obj: object, _skip: bool, _options: object
) -> bool | None:
    """Leave out what is not for users."""
    return True if any(obj is each for each in _HIDDEN) else None


_DEFAULTS: Final = (
    (re.compile(r"<bound method Random\.(\w+) of [^>]*>+"), r"random.\1"),
    (re.compile(r"<anyio\.\S*_IgnoredTaskStatus object[^>]*>"), "anyio.TASK_STATUS_IGNORED"),
    (re.compile(r"<Codec application/json>"), "tofu_aio.JSON"),
    (re.compile(r"<function (\w+)[^>]*>"), r"\1"),
    (re.compile(r"\bOtherLimits\b"), "EngineOptions"),
)


def signature(
    _app: Sphinx,
    what: str,
    name: str,
    obj: object,
    _options: object,
    shown: str | None,
    returns: str | None,
) -> tuple[str, str | None] | None:
    """Write defaults as code, and hide the constructors of what users do not make."""
    if not shown:
        return None
    described = "Args:" in (inspect.getdoc(obj) or "") and name not in NOT_CONSTRUCTED
    if what in {"class", "exception"} and not described:
        return "", None
    for pattern, better in _DEFAULTS:
        shown = pattern.sub(better, shown)
    return shown, returns


# --- the command --------------------------------------------------------------------------------


def command_help(_app: Sphinx, context: click.Context, lines: list[str]) -> None:
    """Show a command's help as click does: what stands after a backspace mark is code."""
    lines[:] = []
    for block in inspect.cleandoc(context.command.help or "").split("\n\n"):
        if not block.startswith("\b\n"):
            lines += [*_plain(block).splitlines(), ""]
            continue
        head, *rest = block.removeprefix("\b\n").splitlines()
        if re.fullmatch(r"\w[\w ]*:", head):
            lines += [head, ""]
        else:
            rest = [head, *rest]
        code = inspect.cleandoc("\n".join(["", *rest])).splitlines()
        lines += [".. code-block:: text", "", *(f"   {line}" for line in code), ""]


def _plain(text: str) -> str:
    """Text without anything that reStructuredText would read as a mark."""
    return re.sub(r"([*`|_\\]|(?<=\w)://)", r"\\\1", text)


_PUBLIC: Final = public_names()
_SHOWN: Final = frozenset(
    f"{module}.{name}" for module in MODULES for name in import_module(module).__all__
)
_HIDDEN: Final = [
    value
    for owner, members in INTERNAL.items()
    for member, value in vars(getattr(tofu_aio, owner.rpartition(".")[2])).items()
    if member in members
]


def setup(app: Sphinx) -> dict[str, object]:
    """For Sphinx."""
    app.connect("source-read", embed)
    app.connect("missing-reference", resolve)
    app.connect("autodoc-process-docstring", docstring)
    app.connect("autodoc-skip-member", skip)
    app.connect("autodoc-process-signature", signature)
    app.connect("sphinx-click-process-description", command_help)
    app.add_transform(LinkNames)
    app.add_transform(Fields)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
