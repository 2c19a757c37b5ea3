"""JSON and YAML, as crictl prints them, for programs that read the output."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from imagekeep.cli.output import write

if TYPE_CHECKING:
    from collections.abc import Iterator

YAML_KEY_MAX = 1024
"""The longest key, in characters of its line, that YAML allows before a colon (YAML 1.2.2, 7.4.2)."""

_YAML_WORDS = frozenset(["y", "n", "yes", "no", "on", "off", "true", "false", "null"])
"""The words that YAML 1.1 reads as a truth or as nothing."""


def write_document(document: Any, output: str) -> None:
    """Write a document to standard output as `json` or `yaml`; both are ASCII, so safe on any terminal."""
    if output == "yaml":
        write("".join(f"{line}\n" for line in yaml_lines(document)))
    else:
        write(json.dumps(document, indent=2) + "\n")


def yaml_lines(value: Any) -> Iterator[str]:
    """Give the lines of a value in YAML's block style; every text is quoted, so that none is mistaken.

    A text in double quotes may hold any character as an escape (YAML 1.2.2, 5.7).
    """
    if isinstance(value, dict) and value:
        for key, each in value.items():
            yield from _yaml_entry(_yaml_key(key), each)
    elif isinstance(value, list | tuple) and value:
        for each in value:
            first, *others = yaml_lines(each)
            yield f"- {first}"
            yield from (f"  {line}" for line in others)
    else:
        yield _yaml_text(value) if isinstance(value, str) else json.dumps(value)


def _yaml_entry(key: str, value: Any) -> Iterator[str]:
    """Give the lines of one entry of a mapping."""
    if len(key) > YAML_KEY_MAX:
        yield f"? {key}"
        key = ""
    lines = list(yaml_lines(value))
    if value and isinstance(value, dict | list | tuple):
        yield f"{key}:"
        yield from (f"  {line}" for line in lines)
    else:
        yield f"{key}: {lines[0]}"


def _yaml_key(key: str) -> str:
    """Return a key, bare where it cannot be mistaken for anything else: the names of our own fields."""
    return key if key.isascii() and key.isalpha() and key.lower() not in _YAML_WORDS else _yaml_text(key)


def _yaml_text(text: str) -> str:
    """Return a text in double quotes, escaped as in JSON but for the characters that JSON writes as two."""
    return '"' + "".join(map(_yaml_character, text)) + '"'


def _yaml_character(character: str) -> str:
    if character in '"\\':
        return f"\\{character}"
    if " " <= character <= "~":
        return character
    code = ord(character)
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
