"""Escaping of invisible and misleading text."""

from __future__ import annotations

import sys
import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from imagekeep.errors import ImageNotFoundError, printable
from imagekeep.escaping import escape

HIDDEN = {
    "an escape sequence": "\x1b",
    "a line's end": "\n",
    "a C1 control": "\x9b",
    "a soft hyphen": "\xad",
    "a no-break space": "\xa0",
    "an ideographic space": "\u3000",
    "a zero-width space": "\u200b",
    "a zero-width joiner": "\u200d",
    "a combining accent": "\u0301",
    "an enclosing circle": "\u20dd",
    "a spacing mark": "\u0903",
    "a grapheme joiner": "\u034f",
    "a Mongolian variation selector": "\u180b",
    "a variation selector": "\ufe0f",
    "a variation selector of the supplement": "\U000e0100",
    "a tag": "\U000e0061",
    "a right-to-left override": "\u202e",
    "an isolate": "\u2066",
    "a right-to-left mark": "\u200f",
    "a line separator": "\u2028",
    "a byte order mark": "\ufeff",
    "an interlinear anchor": "\ufff9",
    "a Hangul filler": "\u3164",
    "a Hangul initial filler": "\u115f",
    "a Hangul vowel filler": "\u1160",
    "a half-width Hangul filler": "\uffa0",
    "a Hangul vowel that joins": "\u1161",
    "a Braille blank": "\u2800",
    "an object replacement": "\ufffc",
    "a null notehead": "\U0001d159",
    "an Egyptian blank": "\U00013441",
    "a private character": "\ue000",
    "an unassigned character": "\u0378",
    "a noncharacter": "\uffff",
    "half a surrogate pair": "\udcff",
    "a Hebrew letter": "\u05d0",
    "an Arabic letter": "\u0627",
    "an Arabic digit": "\u0661",
    "a fullwidth letter": "\uff41",
    "a mathematical letter": "\U0001d41a",
    "a ligature": "\ufb01",
    "the Kelvin sign": "\u212a",
    "the Angstrom sign": "\u212b",
    "a Greek question mark": "\u037e",
    "a one-dot leader": "\u2024",
    "a fraction slash": "\u2044",
    "a ratio": "\u2236",
    "a hyphen that is not ASCII's": "\u2010",
}


@pytest.mark.parametrize("character", HIDDEN.values(), ids=HIDDEN.keys())
@pytest.mark.parametrize("around", [("", ""), ("name:", "v1"), ("日本", "é")], ids=["alone", "ascii", "wide"])
def test_invisible_and_misleading_characters_are_escaped(character: str, around: tuple[str, str]) -> None:
    shown = character.encode("unicode_escape").decode()
    before, after = around
    assert escape(f"{before}{character}{after}") == f"{before}{shown}{after}"


@pytest.mark.parametrize(
    "text", ["", "a b", "~!\\x1b", "Müller", "日本語", "привет", "Docker入門", "한국", "😀", "½", "…→µ"]
)
def test_readable_text_is_unchanged(text: str) -> None:
    assert escape(text) == text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\u0430lpine", "\\u0430lpine"),
        ("docker.io/library/b\u03c5sybox:1", "docker.io/library/b\\u03c5sybox:1"),
        ("p\u0430yp\u0430l", "p\\u0430yp\\u0430l"),
        ("M\u00fcller\u0430", "M\u00fcller\\u0430"),
        ("\u043c\u0438\u0440 hello", "\u043c\u0438\u0440 hello"),
    ],
)
def test_a_letter_that_looks_latin_is_escaped_among_latin_ones(text: str, shown: str) -> None:
    assert escape(text) == shown


def test_each_stacked_accent_is_escaped() -> None:
    assert escape("a" + "\u0300" * 3) == "a" + "\\u0300" * 3


@pytest.mark.slow
def test_every_character_is_itself_or_ascii() -> None:
    for code in range(sys.maxunicode + 1):
        character = chr(code)
        shown = escape(character)
        assert shown.isprintable()
        if shown == character:
            assert unicodedata.category(character)[0] in "LNPS" or character == " "
        else:
            assert shown.isascii()


@given(st.text())
@example("\x8aΆ")
def test_escaping_twice_changes_nothing(text: str) -> None:
    assert escape(escape(text)) == escape(text)


def test_a_value_in_a_message_is_escaped_and_cut() -> None:
    assert printable("a\u3164") == "a\\u3164"
    assert printable("x" * 300) == "x" * 200 + "…"
    assert printable("") == '""'


def test_an_error_escapes_its_reference() -> None:
    error = ImageNotFoundError("no such image")
    error.reference = "a\u2800"
    assert str(error) == "a\\u2800: no such image"
