"""Escapes text for a terminal or a log, so that every character shown is unambiguous and in its place.

Names come from untrusted image sources and stores. Printed verbatim, they could move the cursor, reverse a line,
hide characters, or look like other names. A character is escaped if it

- is a control, a format character, a surrogate, unassigned, or a space other than U+0020 (`str.isprintable`),
- is invisible by itself: combining marks, variation selectors, fillers, blanks,
- is written from right to left, which reorders its neighbours (Unicode's bidirectional class),
- normalizes to other text: fullwidth letters, ligatures, the Kelvin sign (NFC and NFKC),
- or looks like a Latin letter and stands in a word with Latin letters.

A word entirely in another alphabet is shown, because people write in it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_INVISIBLE = frozenset(
    "\u115f\u1160\u3164\uffa0"  # Hangul fillers
    "\u2800\ufffc\U0001d159"  # Braille blank, object replacement, null notehead
    "\U00013441\U00013442"  # Egyptian blanks
)
"""Invisible characters that Unicode classifies as letters or symbols."""

_CONJOINING = (range(0x1160, 0x1200), range(0xD7B0, 0xD800))
"""Hangul vowels and finals, which join the syllable before them."""

_SEPARATOR_TWINS = frozenset("\u02d0\u02f8\u2010\u2012\u2044\u2212\u2215\u2236\u2571\u27cb\u29f8\ua789")
"""Characters that look like the `-`, `/` and `:` of a reference but do not normalize to them."""

_OWN = frozenset("…µ→")
"""Non-ASCII characters of imagekeep's own messages."""

_RIGHT_TO_LEFT = frozenset(("R", "AL", "AN"))

_LATIN_TWINS = ("ARMENIAN", "CHEROKEE", "COPTIC", "CYRILLIC", "GREEK", "LISU")
"""Prefixes of the Unicode names of letters that look like Latin ones."""

_WORD = re.compile(r"[^\W\d_]+")
_LATIN = re.compile("[A-Za-z]")

SLICE = 1 << 16
"""Maximum characters to escape at a time; each may become ten."""

_CACHED = 4096
"""Maximum cached characters, so that a text of all of Unicode does not fill the memory."""


class CharacterTable(dict[int, str]):
    """A table for `str.translate` that is filled as characters are met."""

    def __init__(self, translate: Callable[[str], str]) -> None:
        super().__init__()
        self._translate = translate

    def __missing__(self, code: int) -> str:
        translated = self._translate(chr(code))
        if len(self) < _CACHED:
            self[code] = translated
        return translated


def escape(text: str) -> str:
    r"""Return text with each invisible or misleading character as a Python escape (`\x1b`, `\u202e`)."""
    if text.isascii():
        return text if text.isprintable() else text.translate(_SHOWN)
    # The words are those of the escaped text: an escape ends in Latin letters, and what follows is in their word.
    return _WORD.sub(_escape_twins, text.translate(_SHOWN))


def slices(text: str) -> Iterator[str]:
    """Yield a text in parts of at most SLICE characters, to bound the memory of escaping them."""
    return (text[start : start + SLICE] for start in range(0, len(text), SLICE))


def _escape_twins(word: re.Match[str]) -> str:
    """Escape the letters that look like ASCII letters, if the word has ASCII letters too."""
    if word[0].isascii() or not _LATIN.search(word[0]):
        return word[0]
    return "".join(_escape(letter) if _passes_for_latin(letter) else letter for letter in word[0])


def _passes_for_latin(letter: str) -> bool:
    import unicodedata

    return unicodedata.name(letter, "").startswith(_LATIN_TWINS)


def _is_unambiguous(character: str) -> bool:
    """Return whether a character is visible, in its place, and not easily mistaken for another."""
    if character.isascii() or character in _OWN:
        return character.isprintable()
    import unicodedata  # only here: a command that shows ASCII starts without it

    return (
        character.isprintable()
        and not unicodedata.category(character).startswith("M")
        and character not in _INVISIBLE
        and character not in _SEPARATOR_TWINS
        and not any(ord(character) in each for each in _CONJOINING)
        and unicodedata.bidirectional(character) not in _RIGHT_TO_LEFT
        and unicodedata.normalize("NFC", character) == character
        and not unicodedata.normalize("NFKC", character).isascii()
    )


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


_SHOWN = CharacterTable(lambda character: character if _is_unambiguous(character) else _escape(character))
