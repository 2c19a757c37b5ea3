"""JSON and YAML output, formatted as crictl does.

A document is written in pieces, because escaping a long text as a whole takes many times its size in memory.
"""

from __future__ import annotations

import json
from json.encoder import encode_basestring_ascii
from typing import TYPE_CHECKING, Any

from imagekeep.cli.output import write_all
from imagekeep.escaping import SLICE, CharacterTable, slices

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

YAML_KEY_MAX = 1024
"""Maximum length of a key before a colon, in characters of its line (YAML 1.2.2, 7.4.2)."""

_YAML_WORDS = frozenset(["y", "n", "yes", "no", "on", "off", "true", "false", "null"])
"""Words that YAML 1.1 reads as a boolean or as null."""

_INDENT = "  "

_ENCODERS: dict[type, Callable[[Any], str]] = {str: encode_basestring_ascii, int: repr}
"""The encoders that `json.dumps` uses for these types, without its overhead (a fifth of the time)."""


def _yaml_character(character: str) -> str:
    """Return the escape of a character in double quotes; YAML never uses JSON's surrogate pairs (5.7)."""
    if character in '"\\':
        return f"\\{character}"
    if " " <= character <= "~":
        return character
    code = ord(character)
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


_YAML_CHARACTERS = CharacterTable(_yaml_character)


def write_document(document: Any, output: str) -> None:
    """Write a document to standard output as `json` or `yaml`; raises OutputError."""
    write_all(document_pieces(document, output))


def document_pieces(document: Any, output: str) -> Iterator[str]:
    """Yield a document as `json` or `yaml`, both in ASCII and so safe on any terminal."""
    if output == "yaml":
        yield from _yaml(document, "")
    else:
        yield from _json(document, "\n")
        yield "\n"


def line_pieces(document: Any) -> Iterator[str]:
    """Yield a document as one line of JSON, in ASCII."""
    yield from _json(document, None)
    yield "\n"


def _json(value: Any, newline: str | None) -> Iterator[str]:
    """Yield `json.dumps(value, indent=2)` in pieces; `newline` ends a line and indents the next.

    Without it, everything is on one line.
    """
    inner, after_comma = ("", " ") if newline is None else (newline + _INDENT,) * 2
    if isinstance(value, dict) and value:
        for number, (key, each) in enumerate(value.items()):
            yield f",{after_comma}" if number else f"{{{inner}"
            yield from _json_scalar(key)
            yield ": "
            yield from _json(each, newline and inner)
        yield f"{newline or ''}}}"
    elif isinstance(value, list | tuple) and value:
        for number, each in enumerate(value):
            yield f",{after_comma}" if number else f"[{inner}"
            yield from _json(each, newline and inner)
        yield f"{newline or ''}]"
    else:
        yield from _json_scalar(value)


def _json_scalar(value: Any) -> Iterable[str]:
    """Return the pieces of a scalar or an empty container; only a long text has several."""
    if isinstance(value, str) and len(value) > SLICE:
        return _quoted(encode_basestring_ascii(part)[1:-1] for part in slices(value))
    return (_ENCODERS.get(type(value), json.dumps)(value),)


def _yaml(value: Any, indent: str) -> Iterator[str]:
    """Yield a value in YAML's block style; `indent` begins each line except the first.

    Every text is quoted, so that no parser reads it as another type.
    """
    if isinstance(value, dict) and value:
        for number, (key, each) in enumerate(value.items()):
            yield indent if number else ""
            yield from _yaml_entry(key, each, indent)
    elif isinstance(value, list | tuple) and value:
        for number, each in enumerate(value):
            yield f"{indent}- " if number else "- "
            yield from _yaml(each, indent + _INDENT)
    else:
        yield from _yaml_text(value) if isinstance(value, str) else (json.dumps(value),)
        yield "\n"


def _yaml_entry(key: str, value: Any, indent: str) -> Iterator[str]:
    """Yield one entry of a mapping; a key is left bare if no parser can read it as another type."""
    bare = key.isascii() and key.isalpha() and key.lower() not in _YAML_WORDS
    written = key if bare else "".join(_yaml_text(key))
    yield f"? {written}\n{indent}" if len(written) > YAML_KEY_MAX else written
    if value and isinstance(value, dict | list | tuple):
        yield f":\n{indent}{_INDENT}"
        yield from _yaml(value, indent + _INDENT)
    else:
        yield ": "
        yield from _yaml(value, indent)


def _yaml_text(text: str) -> Iterable[str]:
    return _quoted(part.translate(_YAML_CHARACTERS) for part in slices(text))


def _quoted(parts: Iterable[str]) -> Iterator[str]:
    yield '"'
    yield from parts
    yield '"'
