r"""Shell patterns as Go's `path.Match` reads them, and as docker's `reference` filter applies them.

::

    pattern := term*
    term    := "*"          any characters but "/"
             | "?"          one character but "/"
             | "[" ["^"] range+ "]"
             | character | "\" character
    range   := character ["-" character]

A pattern must match the whole text. A class can match "/", `[!a]` means `!` or `a`; in a class `]`, and `-` at its
edge, must be escaped. Go never tries a `*` again once the text up to the next `*` has matched; the atomic groups
do the same, and keep matching linear in the length of the text for each `*`.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from imagekeep.errors import InvalidArgumentError, InvalidReferenceError, printable
from imagekeep.reference import DEFAULT_TAG, parse_any

if TYPE_CHECKING:
    from collections.abc import Iterator

PATTERN_LENGTH_MAX = 4096
"""Maximum length of a pattern; the longest reference that a registry serves is far shorter."""


class Glob:
    """A compiled pattern."""

    def __init__(self, pattern: str) -> None:
        """Compile a pattern; raises InvalidArgumentError if it is malformed or too long."""
        self.pattern = pattern
        if len(pattern) > PATTERN_LENGTH_MAX:
            raise _malformed(pattern, f"longer than {PATTERN_LENGTH_MAX} characters")
        self._compiled = re.compile(_expression(pattern), re.DOTALL)

    def matches(self, text: str) -> bool:
        """Return whether the pattern matches the whole text."""
        return self._compiled.match(text) is not None


class ReferenceGlob(Glob):
    """A pattern for references: docker's `reference` filter.

    It matches a name in any of docker's four spellings (daemon/containerd: the familiar string, the familiar name,
    the full name with its default tag, the full name), or its repository with the target's digest: `name@digest`.
    """

    def matches_reference(self, name: str, target_digest: str | None = None) -> bool:
        """Return whether the pattern matches a stored name or, if given, the name at its target's digest."""
        return any(map(self.matches, spellings(name, target_digest)))


def spellings(name: str, target_digest: str | None = None) -> Iterator[str]:
    """Yield the spellings in which a filter finds a stored name.

    A bare image id has none, as in docker; a name that is not a reference is only found as it is written.
    """
    try:
        reference = parse_any(name)
    except InvalidReferenceError:
        yield name
        return
    if not reference.name:
        return
    yield reference.familiar
    yield reference.familiar_name
    yield str(reference if reference.tag or reference.digest else replace(reference, tag=DEFAULT_TAG))
    yield reference.name
    if target_digest and not reference.digest:
        yield f"{reference.familiar_name}@{target_digest}"
        yield f"{reference.name}@{target_digest}"


class _Token(NamedTuple):
    """The regular expression of one term, and where the next term begins."""

    expression: str
    end: int


def _expression(pattern: str) -> str:
    """Return the regular expression of a pattern."""
    chunks = list(_chunks(pattern))
    first, rest = chunks[0], chunks[1:]
    if not rest:
        return rf"{first}\Z"
    groups = [rf"(?>[^/]*?{chunk})" for chunk in rest[:-1]]
    # The last chunk has to reach the end, wherever it first matches; after a final `*` anything but "/" may follow.
    last = rf"[^/]*?{rest[-1]}\Z"
    return first + "".join(groups) + last


def _chunks(pattern: str) -> Iterator[str]:
    """Yield the regular expressions of the parts between stars; several stars in a row are one."""
    chunk, position, starred = "", 0, False
    while position < len(pattern):
        if pattern[position] == "*":
            if not starred:
                yield chunk
            chunk, starred, position = "", True, position + 1
        else:
            token = _term(pattern, position)
            chunk, starred, position = chunk + token.expression, False, token.end
    yield chunk


def _term(pattern: str, position: int) -> _Token:
    match pattern[position]:
        case "?":
            return _Token("[^/]", position + 1)
        case "[":
            return _class(pattern, position + 1)
        case "\\":
            if position + 1 == len(pattern):
                raise _malformed(pattern, "it ends in a backslash")
            return _Token(re.escape(pattern[position + 1]), position + 2)
        case character:
            return _Token(re.escape(character), position + 1)


def _class(pattern: str, position: int) -> _Token:
    """Return the regular expression of a class, whose bracket was just read."""
    negated = pattern.startswith("^", position)
    position += negated
    ranges = ""
    first = True
    while first or not pattern.startswith("]", position):
        low, position = _class_character(pattern, position)
        high = low
        if pattern.startswith("-", position):
            high, position = _class_character(pattern, position + 1)
        if low <= high:  # `[z-a]` is well formed, and matches nothing
            ranges += f"{re.escape(low)}-{re.escape(high)}"
        first = False
    if ranges:
        return _Token(f"[{'^' if negated else ''}{ranges}]", position + 1)
    return _Token("." if negated else "(?!)", position + 1)


def _class_character(pattern: str, position: int) -> tuple[str, int]:
    """Return a character of a class and where it ends (Go: getEsc)."""
    if position >= len(pattern):
        raise _malformed(pattern, "a '[' is not closed")
    if pattern[position] in "-]":
        raise _malformed(pattern, f"'{pattern[position]}' in a class must follow a backslash")
    position += pattern[position] == "\\"
    if position + 1 >= len(pattern):
        raise _malformed(pattern, "a '[' is not closed")
    return pattern[position], position + 1


def _malformed(pattern: str, why: str) -> InvalidArgumentError:
    return InvalidArgumentError(f"invalid pattern {printable(pattern)!r}: {why}")
