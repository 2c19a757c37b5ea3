"""`imagekeep query`: any query that reads, and nothing else."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from imagekeep.cli.command import ROW_FORMATS
from imagekeep.database.query import MEMORY_LIMIT, TimeLimit
from imagekeep.errors import StoreUnavailableError
from tests.cli.test_images import NEW

if TYPE_CHECKING:
    from tests.cli.conftest import Run

STORES = Path(__file__).parents[1] / "data" / "stores"


def test_rows_are_shown_below_their_column_names(run: Run) -> None:
    result = run("query", "SELECT reference, pinned FROM reference_list WHERE reference LIKE '%:stable'")
    assert [line.split() for line in result.lines] == [
        ["reference", "pinned"],
        ["docker.io/library/busybox:stable", "1"],
    ]


def test_the_heading_can_be_omitted(run: Run) -> None:
    assert run("query", "-n", "SELECT 1").lines == ["1"]


def test_json_has_each_row_by_its_columns(run: Run) -> None:
    sql = f"SELECT id, size > 0 AS filled, NULL AS absent FROM image_list WHERE id = '{NEW}'"
    assert json.loads(run("query", "-o", "json", sql).out) == {
        "rows": [{"id": NEW, "filled": 1, "absent": None}]
    }


def test_a_list_in_a_view_can_be_expanded(run: Run) -> None:
    sql = "SELECT count(*) AS n FROM image_list, json_each(reference_names)"
    assert json.loads(run("query", "-o", "json", sql).out) == {"rows": [{"n": 5}]}


def test_json_refuses_columns_with_equal_names(run: Run) -> None:
    result = run("query", "-o", "json", "SELECT 1 AS a, 2 AS a")
    assert (result.code, result.err) == (2, "Error: query: two columns are named 'a' (rename one with AS)\n")


@pytest.mark.parametrize(
    ("sql", "shown"),
    [
        ("SELECT NULL", "<none>"),
        ("SELECT CAST('a' AS BLOB)", "a"),
        ("SELECT x'ff00'", "x'ff00'"),
        ("SELECT 9e999", "inf"),
        ("SELECT 1.5", "1.5"),
        ("SELECT char(27) || '[31m'", "\\x1b[31m"),
        ("SELECT char(10)", "\\n"),
    ],
)
def test_a_value_is_escaped_for_a_terminal(run: Run, sql: str, shown: str) -> None:
    assert run("query", "-n", sql).lines == [shown]


def test_rows_beyond_the_limit_are_omitted_with_a_notice(run: Run) -> None:
    result = run("query", "-n", "--limit", "2", "SELECT reference FROM reference_list")
    assert (result.code, len(result.lines)) == (0, 2)
    assert result.err == "only the first 2 rows shown (raise --limit to see more)\n"


WRITING = [
    "DELETE FROM images",
    "UPDATE images SET size = 0",
    "INSERT INTO incomplete_refs VALUES ('a', 'b', 0, 0, 0)",
    "WITH x AS (SELECT 1) DELETE FROM images",
    "SELECT 1; DELETE FROM images",
    "DROP TABLE images",
    "CREATE TEMP TABLE notes (text)",
    "ATTACH 'other.db' AS other",
    "VACUUM INTO 'other.db'",
    "PRAGMA journal_mode = DELETE",
    "PRAGMA writable_schema = ON",
    "PRAGMA hard_heap_limit = 0",
    "BEGIN IMMEDIATE",
    "COMMIT",
    "REINDEX",
    "SELECT load_extension('x')",
    "SELECT readfile('/etc/passwd')",
    "SELECT writefile('other.db', 'x')",
]


@pytest.mark.parametrize("sql", WRITING)
def test_a_statement_that_does_not_only_read_is_refused_without_effect(
    run: Run, directory: Path, sql: str
) -> None:
    before = (directory / "images.db").read_bytes()
    result = run("query", sql)
    assert result.code == 2
    assert result.err.startswith("Error: query: ")
    assert (directory / "images.db").read_bytes() == before
    assert not (directory / "other.db").exists()


@pytest.mark.parametrize(
    "sql", ["", "/* nothing */", "SELEC", "SELECT nothing FROM images", "SELECT ?", "SELECT '\0'"]
)
def test_a_statement_that_is_not_a_query_is_an_error(run: Run, sql: str) -> None:
    result = run("query", sql)
    assert result.code == 2
    assert result.err.startswith("Error: query: ")


ENDLESS = "WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t) SELECT count(*) FROM t"


def test_an_endless_query_times_out(run: Run) -> None:
    result = run("query", "--timeout", "0.1", ENDLESS)
    assert (result.code, result.err) == (
        125,
        "Error: query: took more than 0.1 s (narrow it, or raise --timeout)\n",
    )


def test_a_query_that_cannot_be_interrupted_times_out(directory: Path) -> None:
    sql = "SELECT instr(printf('%.*c', 8000000, 'a'), printf('%.*c', 4000000, 'a') || 'b')"
    ended = subprocess.run(
        [sys.executable, "-m", "imagekeep", "query", "--timeout", "0.1", sql],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert (ended.returncode, ended.stdout) == (125, "")
    assert ended.stderr.startswith("Error: query: took more than 0.1 s and could not be interrupted")


@pytest.mark.parametrize("sql", ["SELECT length(hex(zeroblob(300000000)))", "SELECT randomblob(900000000)"])
def test_the_memory_of_a_query_is_limited(run: Run, sql: str) -> None:
    result = run("query", sql)
    assert (result.code, result.err) == (
        125,
        "Error: query: needs more than 256 MiB of memory (narrow it)\n",
    )


THOUSAND = "WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t LIMIT 1000)"
THOUSAND_OF_3_MB = f"{THOUSAND} SELECT printf('%.*c', 3000000, 'a') AS a FROM t"


def test_the_bytes_of_rows_are_limited(run: Run) -> None:
    result = run("query", THOUSAND_OF_3_MB)
    assert (result.code, result.out, result.err) == (
        125,
        "",
        "Error: query: its rows take more than 32 MiB (narrow it, or lower --limit)\n",
    )


LARGE = {
    "many long rows": THOUSAND_OF_3_MB,
    "a long row beside many": f"{THOUSAND} SELECT printf('%.*c', 3000000, 'a') AS a, 1 AS b "
    "UNION ALL SELECT n, n FROM t",
    "controls": "SELECT replace(hex(zeroblob(15000000)), '0', char(1)) AS a",
    "wide characters": "SELECT replace(hex(zeroblob(3500000)), '0', char(128512)) AS a",
    "text as bytes": "SELECT CAST(replace(hex(zeroblob(3500000)), '0', char(128512)) AS BLOB) AS a",
    "bytes": "SELECT CAST(zeroblob(15000000) || x'ff' AS BLOB) AS a",
    "a value for SQLite alone": "SELECT length(hex(zeroblob(60000000))) AS a",
}
# Not ru_maxrss, which a child takes over from the process that forked it.
MEASURE = """
import re, sys
from pathlib import Path
from imagekeep.cli import main
main(sys.argv[1:])
print(re.search("VmHWM:\\s*([0-9]+)", Path("/proc/self/status").read_text())[1], file=sys.stderr)
"""


@pytest.mark.slow
@pytest.mark.parametrize("output", ROW_FORMATS)
@pytest.mark.parametrize("sql", LARGE.values(), ids=LARGE.keys())
def test_the_memory_for_output_is_limited(directory: Path, sql: str, output: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, "query", "--timeout", "100", "-o", output, sql],
        cwd=directory,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        check=True,
        timeout=200,
    )
    assert int(done.stderr.split()[-1]) << 10 < MEMORY_LIMIT


def test_printing_counts_towards_the_timeout() -> None:
    with pytest.raises(StoreUnavailableError, match=r"^query: took more than 0 s \("):
        list(TimeLimit(0).bound(["a"]))


def test_waiting_for_the_reader_does_not_count_towards_the_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    shown = TimeLimit(10).bound("abc")
    assert next(shown) == "a"
    now += 1000
    assert next(shown) == "b"
    now += 5
    assert next(shown) == "c"


SECRET = "hunter2"
FAILING = [
    "json_extract('{}', SECRET)",
    "json_extract('{}', '$' || SECRET)",
    "json(SECRET)",
    "json_set('{}', SECRET, 1)",
    "abs(-9223372036854775807 - 1) || SECRET",
    "SECRET LIKE 'a' ESCAPE SECRET",
    "(SELECT key FROM json_each(SECRET))",
    "(SELECT key FROM json_each('{}', SECRET))",
    "(SELECT name FROM pragma_table_info('images', SECRET))",
    "(SELECT name FROM pragma_table_info(SECRET, SECRET))",
    "CAST(CAST(SECRET AS BLOB) || x'ff' AS TEXT)",
    "sum(9223372036854775807) + sum(9223372036854775807) || SECRET",
    "zeroblob(4000000000) || SECRET",
    "printf('%*s', 2000000000, SECRET)",
    "strftime(SECRET, SECRET)",
]


HOLDERS = f"""
SELECT substr(CAST(document AS TEXT), instr(document, 'hunter' || '2'), {len(SECRET)}) AS secret
FROM documents WHERE instr(document, 'hunter' || '2')
"""


@pytest.mark.parametrize("condition", ["", "ORDER BY {}", "WHERE {}"])
@pytest.mark.parametrize("expression", FAILING)
def test_an_error_quotes_no_value(run: Run, expression: str, condition: str) -> None:
    sql = f"SELECT {expression} AS a FROM ({HOLDERS}) {condition.format(f'({expression})')}"
    result = run("query", sql.replace("SECRET", "secret"))
    assert result.code in (0, 2, 125)
    assert SECRET not in result.err


def test_an_error_of_a_running_query_names_its_kind(run: Run) -> None:
    assert run("query", "SELECT json_extract('{}', document) FROM documents").err == (
        "Error: query: a function failed on one of the values (such as bad JSON, a bad path, or an integer "
        "overflow)\n"
    )


def test_text_that_is_not_utf8_is_an_error_without_the_text(run: Run) -> None:
    assert run("query", "SELECT CAST(x'61ff' AS TEXT)").err == (
        "Error: query: a value is not UTF-8 text (select it with CAST(… AS BLOB))\n"
    )


def test_a_statement_that_is_not_utf8_is_an_error(run: Run) -> None:
    assert run("query", "SELECT '\udcff'").err == (
        "Error: query: the statement or a parameter is not UTF-8 text\n"
    )


def test_a_statement_found_to_write_only_while_running_is_refused(run: Run) -> None:
    assert run("query", "VACUUM INTO 'other.db'").err == "Error: query: may only read (give one SELECT)\n"


@pytest.mark.parametrize("name", ["references", "References"])
def test_the_table_whose_name_is_a_word_of_sql_is_explained(run: Run, name: str) -> None:
    result = run("query", f"SELECT count(*) FROM {name}")
    assert (result.code, 'read reference_list, or write "references"' in result.err) == (2, True)


@pytest.mark.parametrize("seconds", ["nan", "inf", "1e300", "0", "-1"])
def test_an_invalid_timeout_is_refused(run: Run, seconds: str) -> None:
    result = run("query", "--timeout", seconds, "SELECT 1")
    assert (result.code, result.out) == (2, "")
    assert "Invalid value for '--timeout'" in result.err


def test_an_error_of_the_query_itself_quotes_it(run: Run) -> None:
    assert run("query", "SELECT absent FROM images").err == "Error: query: no such column: absent\n"


@pytest.mark.parametrize("view", ["image_list", "reference_list", "config_list", "history_list"])
def test_the_views_show_no_secrets(run: Run, view: str) -> None:
    result = run("query", f"SELECT * FROM {view}")
    assert result.code == 0
    assert result.lines
    assert "hunter2" not in result.out


def test_a_config_is_shown_if_selected(run: Run) -> None:
    assert "hunter2" in run("query", "SELECT document FROM documents").out


def test_a_store_of_an_older_revision_can_be_queried(run: Run, directory: Path) -> None:
    shutil.copy(STORES / "0001.db", directory / "images.db")
    assert run("query", "-n", "SELECT count(*) FROM images").lines == ["4"]


# Parameters


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("x=7", ["text", "7"]),
        ("x=", ["text", ""]),
        ("x=a=b", ["text", "a=b"]),
        ("x=a\nb", ["text", "a\\nb"]),
        (":x=7", ["text", "7"]),
        ("x:=7", ["integer", "7"]),
        ("x:=-7.5", ["real", "-7.5"]),
        ("x:=null", ["null", "<none>"]),
    ],
)
def test_a_parameter_is_a_text_a_number_or_null(run: Run, given: str, shown: list[str]) -> None:
    result = run("query", "-n", "-p", given, "SELECT typeof(:x) AS type, :x AS value")
    assert [cell.strip() for cell in result.out.rstrip("\n").split(" ", 1)] == shown


def test_a_text_is_compared_with_a_column_of_numbers_as_a_number(run: Run) -> None:
    sql = "SELECT count(*) FROM image_list WHERE size > :size"
    assert run("query", "-n", "-p", "size=0", sql).lines == ["2"]
    assert run("query", "-n", "-p", "size=100000000", sql).lines == ["0"]


def test_a_parameter_cannot_become_sql(run: Run) -> None:
    sql = "SELECT count(*) FROM reference_list WHERE reference = :name"
    assert run("query", "-n", "-p", "name=' OR 1=1 --", sql).lines == ["0"]


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ([], "query: no value for :b (add -p b=VALUE)"),
        (["b=1", "c=1"], "query: the statement has no parameter :c"),
        (["b=\udcff"], "query: the statement or a parameter is not UTF-8 text"),
    ],
)
def test_the_parameters_must_be_the_statements(run: Run, parameters: list[str], message: str) -> None:
    result = run(
        "query", "-p", "a=1", *(word for each in parameters for word in ("-p", each)), "SELECT :a, :b"
    )
    assert (result.code, result.err) == (2, f"Error: {message}\n")


@pytest.mark.parametrize(
    "given",
    [
        "x",
        "=1",
        "a b=1",
        "x:=a",
        "x:=true",
        "x:=[1]",
        "x:=NaN",
        "x:=Infinity",
        "x:=",
        f"x:={2**63}",
        f"x:={-(2**63) - 1}",
    ],
)
def test_a_parameter_that_is_malformed_is_a_usage_error(run: Run, given: str) -> None:
    result = run("query", "-p", given, "SELECT :x")
    assert (result.code, result.out) == (2, "")
    assert "Invalid value for '-p'" in result.err


def test_a_parameter_that_is_given_twice_is_a_usage_error(run: Run) -> None:
    assert "x is given twice" in run("query", "-p", "x=1", "-p", "x:=2", "SELECT :x").err


# Where the statement comes from


def piped(directory: Path, *arguments: str, text: bytes = b"") -> tuple[int, bytes, bytes]:
    """Run imagekeep with a text on standard input."""
    ended = subprocess.run(
        [sys.executable, "-m", "imagekeep", "query", *arguments],
        cwd=directory,
        input=text,
        capture_output=True,
        check=False,
        timeout=60,
    )
    return ended.returncode, ended.stdout, ended.stderr


@pytest.mark.parametrize("arguments", [[], ["-"], ["--file", "-"]])
def test_a_statement_is_read_from_standard_input(directory: Path, arguments: list[str]) -> None:
    assert piped(directory, *arguments, "-n", text=b"\xef\xbb\xbf-- one\nSELECT 1;\n") == (0, b"1\n", b"")


def test_a_statement_is_read_from_a_file(run: Run, directory: Path) -> None:
    (directory / "q.sql").write_text("SELECT 1\nUNION ALL\nSELECT :n;\n")
    assert run("query", "-n", "-f", "q.sql", "-p", "n=2").lines == ["1", "2"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"SELECT '\xff'", b"is not UTF-8 text"),
        (b"SELECT 1 --" + b"x" * (1 << 20), b"is longer than 1024 KiB"),
        (b"", b"no statement (give one SELECT)"),
    ],
    ids=["not text", "too long", "empty"],  # pytest puts the id into the environment, which has a limit
)
def test_a_file_that_is_not_a_statement_is_an_error(directory: Path, content: bytes, message: bytes) -> None:
    code, out, err = piped(directory, text=content)
    assert (code, out) == (2, b"")
    assert message in err


def test_a_missing_file_is_an_error(run: Run) -> None:
    result = run("query", "-f", "none.sql")
    assert (result.code, result.err) == (125, "Error: none.sql: No such file or directory\n")


def test_a_statement_is_given_once(run: Run) -> None:
    assert "give either SQL or --file" in run("query", "-f", "q.sql", "SELECT 1").err


# Plans


def test_a_plan_is_shown_as_a_tree(run: Run) -> None:
    result = run("query", "-n", "--explain", "-p", "id=x", "SELECT size FROM image_list WHERE id = :id")
    steps = [line.split(maxsplit=2)[2] for line in result.lines]
    assert steps == ["SEARCH images USING INDEX sqlite_autoindex_images_1 (platform_key=? AND id=?)"]


def test_a_plan_has_its_steps_in_json(run: Run) -> None:
    sql = "SELECT reference_names FROM image_list"
    rows = json.loads(run("query", "-o", "json", "--explain", sql).out)["rows"]
    assert {row["parent"] for row in rows} <= {0, *(row["id"] for row in rows)}
    assert [set(row) for row in rows] == [{"id", "parent", "detail"}] * len(rows)
    assert len(rows) > 1


def test_a_statement_that_writes_is_not_explained(run: Run) -> None:
    assert run("query", "--explain", "DELETE FROM images").code == 2
