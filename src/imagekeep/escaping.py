"""Escapes text for a terminal or a log: every character that is shown stands for itself, and in its place.

Names come from image sources and stores that anybody may have written. Printed as they are they could move the
cursor, reverse the order of a line, hide behind blanks, or look like another name. ASCII needs no thought;
beyond it a character is escaped if it

- is a control, a format character, a surrogate, unassigned, or a space other than U+0020 (`str.isprintable`),
- has no ink of its own: combining marks, variation selectors, fillers, blanks,
- is written from right to left, which moves what stands around it (Unicode's bidirectional class),
- has the normal form of another text: fullwidth letters, ligatures, the Kelvin sign (NFC and NFKC),
- or is a letter of an alphabet that shares its shapes with Latin, in a word that has Latin letters too.

A word that is wholly of such an alphabet is shown: people write in it.
"""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_INKLESS = frozenset(
    "\u115f\u1160\u3164\uffa0"  # Hangul fillers
    "\u2800\ufffc\U0001d159"  # Braille blank, object replacement, null notehead
    "\U00013441\U00013442"  # Egyptian blanks
)
"""Characters that Unicode calls letters or symbols and that show nothing."""

_CONJOINING = (range(0x1160, 0x1200), range(0xD7B0, 0xD800))
"""Hangul vowels and finals, which join the syllable before them."""

_SEPARATOR_TWINS = frozenset("\u02d0\u02f8\u2010\u2012\u2044\u2212\u2215\u2236\u2571\u27cb\u29f8\ua789")
"""Characters that look like the `-`, `/` and `:` of a reference, and that no normal form makes one."""

_OWN = frozenset("…µ→")
"""Characters of imagekeep's own messages."""

_RIGHT_TO_LEFT = frozenset(("R", "AL", "AN"))

_LATIN_TWINS = ("ARMENIAN", "CHEROKEE", "COPTIC", "CYRILLIC", "GREEK", "LISU")
"""How Unicode's names of the letters begin that share their shapes with Latin ones."""

_WORD = re.compile(r"[^\W\d_]+")
_LATIN = re.compile("[A-Za-z]")

SLICE = 1 << 16
"""Characters of a long text to escape at a time; each may become ten."""

_CACHED = 4096
"""Characters to remember, so that a text of all of Unicode does not fill the memory."""


class CharacterTable(dict[int, str]):
    """A table for `str.translate` that works out what a character becomes when it first meets it."""

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
    # The parts between words are translated apart: what a word became is not looked at again.
    parts, end = [], 0
    for word in _WORD.finditer(text):
        if _LATIN.search(word[0]) and not word[0].isascii():
            parts += [text[end : word.start()].translate(_SHOWN), _escape_mixed(word[0])]
            end = word.end()
    return "".join([*parts, text[end:].translate(_SHOWN)])


def slices(text: str) -> Iterator[str]:
    """Yield a text in parts of at most SLICE characters, so that no part takes much when it is escaped."""
    return (text[start : start + SLICE] for start in range(0, len(text), SLICE))


def _escape_mixed(word: str) -> str:
    """Return a word that has ASCII letters with the letters escaped that could pass for such."""
    return "".join(_escape(letter) if _passes_for_latin(letter) else _SHOWN[ord(letter)] for letter in word)


def _passes_for_latin(letter: str) -> bool:
    return unicodedata.name(letter, "").startswith(_LATIN_TWINS)


def _stands_for_itself(character: str) -> bool:
    """Return whether a character is seen, where it stands, and cannot be taken for another."""
    if character.isascii() or character in _OWN:
        return character.isprintable()
    return (
        character.isprintable()
        and not unicodedata.category(character).startswith("M")
        and character not in _INKLESS
        and character not in _SEPARATOR_TWINS
        and not any(ord(character) in each for each in _CONJOINING)
        and unicodedata.bidirectional(character) not in _RIGHT_TO_LEFT
        and unicodedata.normalize("NFC", character) == character
        and not unicodedata.normalize("NFKC", character).isascii()
    )


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")


_SHOWN = CharacterTable(lambda character: character if _stands_for_itself(character) else _escape(character))
