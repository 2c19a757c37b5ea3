"""Formatting of JSON, YAML and tables."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagekeep.cli.documents import document_pieces
from imagekeep.cli.formats import COLUMN_GAP, WIDEST, table
from imagekeep.escaping import SLICE

scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
documents = st.recursive(
    scalars,
    lambda inner: st.lists(inner) | st.tuples(inner) | st.dictionaries(st.text(), inner),
)


@given(documents)
def test_json_equals_the_standard_librarys(document: Any) -> None:
    assert "".join(document_pieces(document, "json")) == json.dumps(document, indent=2) + "\n"


def test_long_text_is_complete() -> None:
    text = "a\x01é😀" * SLICE
    assert "".join(document_pieces(text, "json")) == json.dumps(text) + "\n"
    assert max(map(len, document_pieces(text, "json"))) <= 12 * SLICE


@pytest.mark.parametrize(
    ("document", "lines"),
    [
        ({}, "{}\n"),
        ([], "[]\n"),
        (None, "null\n"),
        ("a", '"a"\n'),
        ({"a": {"b": [1, {"c": [], "d": True}]}}, "a:\n  b:\n    - 1\n    - c: []\n      d: true\n"),
        ([[1, 2], [{"a": 1, "no": 2}]], '- - 1\n  - 2\n- - a: 1\n    "no": 2\n'),
        ({"x": {"k" * 1030: [1]}}, f"x:\n  ? {'k' * 1030}\n  :\n    - 1\n"),
    ],
)
def test_yaml_has_block_style(document: Any, lines: str) -> None:
    assert "".join(document_pieces(document, "yaml")) == lines


def test_long_cell_does_not_widen_its_column() -> None:
    long = "\x01" * (WIDEST + 1)
    first, second = "".join(table([[long, "b"], ["a", "b"]])).splitlines()
    assert first == "\\x01" * len(long) + " " * COLUMN_GAP + "b"
    assert second == f"{'a':20}b"


def test_last_long_cell_is_escaped() -> None:
    assert "".join(table([["\x1b" * 2 * SLICE]])) == "\\x1b" * 2 * SLICE + "\n"


def test_no_rows_make_no_lines() -> None:
    assert list(table([])) == []
