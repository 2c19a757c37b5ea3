"""Templates: docker's placeholders and nothing else of Go's."""

from __future__ import annotations

import pytest

from imagekeep.errors import InvalidArgumentError
from imagekeep.questions.templates import parse_template

KNOWN = ("Repository", "Tag", "ID")
VALUES = {"Repository": "quay.io/app", "Tag": "1\t2", "ID": "0123"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{{.Repository}}:{{.ID}}", "quay.io/app:0123"),
        ("{{ .ID }}", "0123"),
        ("a\\tb{{.ID}}\\n", "a\tb0123\n"),
        ("{.ID}", "{.ID}"),
        ("}}", "}}"),
        ("", ""),
    ],
)
def test_a_template_is_filled_in(text: str, expected: str) -> None:
    assert parse_template(text, KNOWN).render(VALUES) == expected


@pytest.mark.parametrize(
    "text", ["table {{.Repository}}\t{{.Tag}} x\t{{.ID}}", r"table {{.Repository}}\t{{.Tag}} x\t{{.ID}}"]
)
def test_a_table_is_split_at_its_own_tabs(text: str) -> None:
    template = parse_template(text, KNOWN)
    assert template.is_table
    assert template.cells(VALUES) == ["quay.io/app", "1\t2 x", "0123"]


def test_an_unknown_placeholder_is_an_error_that_lists_the_known() -> None:
    with pytest.raises(InvalidArgumentError, match=r"'\.Nope': use one of Repository, Tag, ID"):
        parse_template("{{.Nope}}", KNOWN)


@pytest.mark.parametrize(
    "text",
    ["{{json .ID}}", "{{upper .Tag}}", "{{.ID | len}}", "{{if .ID}}x{{end}}", "{{ID}}", "{{}}", "{{-.ID}}"],
)
def test_a_function_is_an_error(text: str) -> None:
    with pytest.raises(InvalidArgumentError, match="only placeholders"):
        parse_template(text, KNOWN)


def test_an_open_placeholder_is_an_error() -> None:
    with pytest.raises(InvalidArgumentError, match="not closed"):
        parse_template("{{.ID", KNOWN)
