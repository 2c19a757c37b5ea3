"""Rows in every output format, on a terminal and elsewhere."""

from __future__ import annotations

import csv
import io
import json
import re
import sys
from typing import TYPE_CHECKING

import pytest

from imagekeep.cli.rows import Column, Listing, as_size, row_pieces
from tests.cli.session import surroundings
from tests.cli.test_images import NEW
from tests.terminal import Shown, on_terminal

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import Run

ODD = [
    "",
    " a ",
    'a "b", c',
    "a\nb",
    "a\r\nb",
    "a\tb",
    "a\\tb",
    "\\",
    "ä€😀",
    "=1+1",
    "\x1b[31m",
    "x" * 100_000,
]


def printed(output: str, *values: object, heading: bool = True) -> str:
    """Return rows of one column."""
    return "".join(
        row_pieces(Listing([Column("text")], [[value] for value in values]), output, heading=heading)
    )


def untabbed(text: str) -> str:
    """Return a value of tsv as it was."""
    for escaped, character in (("\\\\", "\0"), ("\\t", "\t"), ("\\n", "\n"), ("\\r", "\r"), ("\0", "\\")):
        text = text.replace(escaped, character)
    return text


def test_csv_keeps_every_text() -> None:
    assert list(csv.reader(io.StringIO(printed("csv", *ODD), newline=""))) == [
        ["text"],
        *([text] for text in ODD),
    ]


def test_tsv_keeps_every_text_on_one_line() -> None:
    lines = printed("tsv", *ODD).split("\n")
    assert [untabbed(line) for line in lines] == ["text", *ODD, ""]


def test_jsonl_keeps_every_text_on_one_line() -> None:
    assert [json.loads(line) for line in printed("jsonl", *ODD).splitlines()] == [
        {"text": text} for text in ODD
    ]


def test_json_and_jsonl_have_the_same_elements() -> None:
    values: list[object] = [
        None,
        True,
        1,
        1.5,
        "a",
        b"a",
        b"\xff",
        float("inf"),
        {"a": [1, {"b": []}]},
        [],
        {},
    ]
    elements = json.loads(printed("json", *values))["rows"]
    assert [json.loads(line) for line in printed("jsonl", *values).splitlines()] == elements
    assert printed("jsonl", {"a": [1, {"b": []}]}) == '{"text": {"a": [1, {"b": []}]}}\n'


@pytest.mark.parametrize("output", ["csv", "tsv"])
@pytest.mark.parametrize(
    ("value", "shown"),
    [(None, '""'), (True, "true"), (10**15, "1000000000000000"), (b"\xff", "x'ff'"), (1.5, "1.5")],
)
def test_a_value_is_not_shortened(output: str, value: object, shown: str) -> None:
    listing = Listing([Column("size", as_size)], [[value]])
    expected = shown if output == "csv" else shown.strip('"')
    assert "".join(row_pieces(listing, output)) == f"size\n{expected}\n"


@pytest.mark.parametrize("output", ["table", "csv", "tsv"])
def test_the_heading_can_be_omitted(output: str) -> None:
    assert printed(output, "a", heading=False) == "a\n"


def test_no_rows_are_an_empty_list() -> None:
    assert {output: printed(output) for output in ("json", "jsonl", "yaml", "csv")} == {
        "json": '{\n  "rows": []\n}\n',
        "jsonl": "",
        "yaml": "rows: []\n",
        "csv": "text\n",
    }


def test_images_have_full_values_in_csv(run: Run) -> None:
    rows = list(csv.DictReader(io.StringIO(run("images", "-o", "csv", "--pinned", "busybox:1.36").out)))
    assert [{**row, "size": ""} for row in rows] == [
        {
            "repository": "docker.io/library/busybox",
            "tag": "1.36",
            "image_id": NEW,
            "size": "",
            "pinned": "true",
        }
    ]
    assert int(rows[0]["size"]) == json.loads(run("query", "-o", "json", SIZE).out)["rows"][0]["size"]


SIZE = f"SELECT size FROM image_list WHERE id = '{NEW}'"


def test_images_have_a_line_each_in_jsonl(run: Run) -> None:
    lines = [json.loads(line) for line in run("images", "-o", "jsonl").lines]
    assert lines == json.loads(run("images", "-o", "json").out)["images"]


def test_history_has_the_same_entries_in_csv_and_json(run: Run) -> None:
    rows = list(csv.DictReader(io.StringIO(run("image", "history", "busybox:1.36", "-o", "csv").out)))
    entries = json.loads(run("image", "history", "busybox:1.36", "-o", "json").out)["history"]
    assert [row["time"] for row in rows] == [entry["time"] for entry in entries]
    assert [row["image_id"] for row in rows] == [entry["imageID"] for entry in entries] == [NEW]


def test_a_query_may_repeat_a_column_in_csv(run: Run) -> None:
    assert run("query", "-o", "csv", "SELECT 1 AS a, 2 AS a").out == "a,a\n1,2\n"


def test_differences_are_lines_in_jsonl_and_csv(run: Run) -> None:
    run("--source", "oci:busybox", "sync", "-q")
    run("query", "SELECT 1")
    assert run("--source", "oci:busybox", "diff", "-o", "csv").out == (
        "reference,difference,store_id,source_id,detail\n"
    )
    assert run("--source", "oci:busybox", "diff", "-o", "jsonl").out == ""


# On a terminal


def shown(directory: Path, *arguments: str, **environment: str) -> Shown:
    """Run imagekeep on a terminal."""
    given = {key: value for key, value in surroundings().items() if key not in ("NO_COLOR", "PAGER", "LESS")}
    command = [sys.executable, "-m", "imagekeep", *arguments]
    return on_terminal(command, {**given, "TERM": "xterm", **environment}, directory)


THREE = "SELECT 'a' AS letter UNION ALL SELECT 'b'"


def test_a_table_goes_through_the_pager(directory: Path) -> None:
    result = shown(directory, "query", THREE, PAGER="sed 's/^/> /'", NO_COLOR="1")
    assert result == ("> letter\n> a\n> b\n", 0)


@pytest.mark.parametrize("arguments", [("--no-pager", "query", THREE), ("query", THREE, "--no-pager")])
def test_the_pager_can_be_left_out(directory: Path, arguments: tuple[str, ...]) -> None:
    assert shown(directory, *arguments, PAGER="sed 's/^/> /'", NO_COLOR="1") == ("letter\na\nb\n", 0)


@pytest.mark.parametrize("pager", ["", "cat", "no-such-program --x", "'unclosed"])
def test_without_a_pager_that_runs_output_is_written_directly(directory: Path, pager: str) -> None:
    assert shown(directory, "query", THREE, PAGER=pager, NO_COLOR="1") == ("letter\na\nb\n", 0)


def test_a_pager_that_is_left_early_ends_the_command_quietly(directory: Path) -> None:
    long = "WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t LIMIT 100000) SELECT n FROM t"
    result = shown(directory, "query", "--limit", "100000", long, PAGER="head -n 2", NO_COLOR="1")
    assert result == ("n\n1\n", 141)


def test_less_shows_a_short_table_and_exits(directory: Path) -> None:
    result = shown(directory, "query", THREE, NO_COLOR="1")
    assert result.code == 0
    assert re.sub(r"\x1b[\[(]?[?0-9]*[a-zA-Z=>]", "", result.text).split() == ["letter", "a", "b"]


def test_no_pager_runs_without_a_terminal(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PAGER", "sed 's/^/> /'")
    assert run("query", "-n", "SELECT 1").out == "1\n"


def test_an_error_beside_a_pager_is_shown(directory: Path) -> None:
    result = shown(directory, "query", "SELEC", NO_COLOR="1")
    assert (result.text, result.code) == ('Error: query: near "SELEC": syntax error\n', 2)


BOLD_HEADING = "\x1b[1mletter\x1b[0m\na\nb\n"


def test_a_terminal_has_a_bold_heading_and_red_errors(directory: Path) -> None:
    assert shown(directory, "query", THREE, PAGER="").text == BOLD_HEADING
    assert shown(directory, "query", "").text.startswith("\x1b[31mError: \x1b[0mquery: ")


@pytest.mark.parametrize("environment", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_colors_can_be_left_out(directory: Path, environment: dict[str, str]) -> None:
    for arguments in (["query", THREE], ["query", ""], ["images"]):
        assert "\x1b" not in shown(directory, *arguments, PAGER="", **environment).text


def test_an_empty_no_color_means_nothing(directory: Path) -> None:
    assert shown(directory, "query", THREE, PAGER="", NO_COLOR="").text == BOLD_HEADING


def test_no_colors_without_a_terminal(run: Run) -> None:
    assert "\x1b" not in run("images").out + run("image", "inspect", "nope").err


@pytest.mark.parametrize("output", ["csv", "tsv"])
def test_a_terminal_gets_no_control_characters_of_a_value(directory: Path, output: str) -> None:
    result = shown(directory, "query", "-n", "-o", output, "SELECT char(27) || '[2J'", PAGER="")
    assert result.text in ("\\x1b[2J\n", "\\\\x1b[2J\n")
