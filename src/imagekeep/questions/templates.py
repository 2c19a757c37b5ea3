r"""The templates of docker's `--format`: placeholders, and text between them.

::

    template    := ["table "] (text | placeholder)*
    placeholder := "{{" ["."] name "}}"      with a dot before the name, spaces around it allowed
    text        := anything else; \t, \n and \\ stand for a tab, a newline and a backslash

Go's functions, pipelines and actions are refused: a template that needs them is better asked as JSON.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

from imagekeep.errors import InvalidArgumentError, printable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_TABLE: Final = "table"
_ACTION: Final = re.compile(r"\{\{(.*?)\}\}", re.DOTALL)
_PLACEHOLDER: Final = re.compile(r"\s*\.([A-Za-z][A-Za-z0-9]*)\s*", re.ASCII)
_ESCAPE: Final = re.compile(r"\\([tn\\])")
_ESCAPED: Final = {"t": "\t", "n": "\n", "\\": "\\"}


class Template(NamedTuple):
    """A parsed template: texts and placeholders in turn, beginning and ending with a text."""

    texts: tuple[str, ...]
    placeholders: tuple[str, ...]
    is_table: bool

    def render(self, values: Mapping[str, str]) -> str:
        """Return the template with each placeholder replaced by its value."""
        values_in_order = [values[name] for name in self.placeholders]
        return self.texts[0] + "".join(
            value + text for value, text in zip(values_in_order, self.texts[1:], strict=True)
        )

    def cells(self, values: Mapping[str, str]) -> list[str]:
        """Return a row of a table: the rendered template, split at its own tabs and not at those of values."""
        cells = self.texts[0].split("\t")
        for name, text in zip(self.placeholders, self.texts[1:], strict=True):
            first, *rest = text.split("\t")
            cells[-1] += values[name] + first
            cells += rest
        return cells


def parse_template(text: str, known: Sequence[str]) -> Template:
    """Parse a template of these placeholders; raises InvalidArgumentError.

    A placeholder that is not known is an error that lists the known ones.
    """
    is_table = text == _TABLE or text.startswith(f"{_TABLE} ")
    parts = _ACTION.split(text.removeprefix(_TABLE).lstrip(" ") if is_table else text)
    texts, actions = parts[::2], parts[1::2]
    if any("{{" in part for part in texts):
        raise InvalidArgumentError(f"invalid format {printable(text)!r}: '{{{{' is not closed")
    names = tuple(_name(action, known) for action in actions)
    return Template(tuple(map(_unescape, texts)), names, is_table)


def _name(action: str, known: Sequence[str]) -> str:
    match = _PLACEHOLDER.fullmatch(action)
    if match and match[1] in known:
        return match[1]
    listed = ", ".join(known)
    if match:
        raise InvalidArgumentError(f"unknown placeholder {printable('.' + match[1])!r}: use one of {listed}")
    written = printable("{{" + action + "}}")
    raise InvalidArgumentError(f"invalid format {written!r}: only placeholders are supported: {listed}")


def _unescape(text: str) -> str:
    return _ESCAPE.sub(lambda match: _ESCAPED[match[1]], text)
