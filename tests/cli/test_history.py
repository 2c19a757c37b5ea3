"""What was here at a time, what changed since, and the life of an image: from the history alone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from imagekeep.store import Store
from tests.database.rows import opened
from tests.images import digest_of

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import Run

A, B, C = (digest_of(name) for name in (b"a", b"b", b"c"))
APP, OTHER, ODD = "docker.io/library/app:1", "quay.io/team/other:2", "app2"
DAY = 86_400_000_000
MIDNIGHT = 1_795_132_800_000_000
"""2026-11-20 00:00 UTC, in microseconds."""

ROWS = [
    (1, APP, A, "new", 0),
    (2, OTHER, B, "new", 1),
    (3, APP, B, "moved", 0),
    (4, OTHER, B, "unpinned", 0),
    (5, ODD, C, "new", 0),
    (6, APP, B, "vanished", 0),
]


@pytest.fixture
def past(directory: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a store whose history has a change each day from 2026-11-20 on, in UTC."""
    monkeypatch.setenv("IMAGEKEEP_STORE", "past.db")
    monkeypatch.setenv("TZ", "UTC")
    Store.open(directory / "past.db").close()
    with opened(directory / "past.db") as connection:
        connection.executemany(
            "INSERT INTO reference_history (sequence, reference, image_id, event, pinned, at, target_digest)"
            f" VALUES (?, ?, ?, ?, ?, {MIDNIGHT} + (? - 1) * {DAY}, '{digest_of(b'target')}')",
            [(*row, row[0]) for row in ROWS],
        )
        connection.commit()
    return directory / "past.db"


def as_of(run: Run, time: str, *more: str) -> list[list[str]]:
    return [
        line.split() for line in run("images", "--as-of", time, "-n", "--pinned", "--no-trunc", *more).lines
    ]


@pytest.mark.usefixtures("past")
@pytest.mark.parametrize(
    ("time", "expected"),
    [
        ("2026-11-20 00:00", [["docker.io/library/app", "1", A, "<none>", "false"]]),
        (
            "2026-11-21T12:00:00Z",
            [
                ["docker.io/library/app", "1", A, "<none>", "false"],
                ["quay.io/team/other", "2", B, "<none>", "true"],
            ],
        ),
        (
            "2026-11-22",
            [
                ["docker.io/library/app", "1", B, "<none>", "true"],
                ["quay.io/team/other", "2", B, "<none>", "true"],
            ],
        ),
        (
            "2026-11-26",
            [["quay.io/team/other", "2", B, "<none>", "false"], ["<none>", "<none>", C, "<none>", "false"]],
        ),
    ],
)
def test_the_images_of_a_past_time(run: Run, time: str, expected: list[list[str]]) -> None:
    assert as_of(run, time) == expected


@pytest.mark.usefixtures("past")
def test_a_past_list_takes_a_name_and_the_other_formats(run: Run) -> None:
    assert [row[2] for row in as_of(run, "2026-11-21", "app")] == [A]
    [image] = json.loads(run("images", "--as-of", "2026-11-20", "-o", "json").out)["images"]
    assert image["id"] == A
    assert image["size"] is None
    assert run("images", "--as-of", "2026-11-20", "-q").out == f"{A}\n"


@pytest.mark.usefixtures("past")
@pytest.mark.parametrize("command", [["images", "--as-of"], ["diff", "--since"]])
def test_before_the_first_record_the_error_says_from_when_it_knows(run: Run, command: list[str]) -> None:
    result = run(*command, "2026-11-19 23:59:59")
    assert (result.code, result.out) == (1, "")
    assert result.err == "Error: unknown: the history begins at 2026-11-20T00:00:00Z\n"


def test_a_time_before_old_history_was_removed_is_unknown(run: Run, past: Path) -> None:
    with opened(past) as connection:
        connection.execute(
            "INSERT INTO history_cuts (cut_key, older_than, removed, at) VALUES (1, ?, 0, ?)",
            (MIDNIGHT + DAY,) * 2,
        )
        connection.commit()
    assert "the history begins at 2026-11-21T00:00:00Z" in run("images", "--as-of", "2026-11-20").err
    assert run("images", "--as-of", "2026-11-21", "-q").lines == [A, B]


def test_other_platforms_have_their_own_past(run: Run, past: Path) -> None:
    with opened(past) as connection:
        connection.execute("UPDATE platforms SET platform = 'linux/amd64'")
        connection.execute("INSERT INTO platforms (platform_key, platform) VALUES (1, 'linux/arm64')")
        connection.execute(
            "INSERT INTO reference_history (reference, image_id, event, pinned, at, platform, size)"
            " VALUES (?, ?, 'new', 0, ?, 'linux/arm64', 5)",
            (OTHER, A, MIDNIGHT + 9 * DAY),
        )
        connection.commit()
    assert A not in run("images", "--as-of", "2026-12-31", "-q").lines
    assert run("images", "--platform", "linux/arm64", "--as-of", "2026-12-31", "-q").lines == [A]
    [changed] = json.loads(run("log", "-n", "1", "-o", "json").out)["changes"]
    assert changed["platform"] == "linux/arm64"
    assert json.loads(run("image", "history", changed["reference"], "-o", "json").out)["history"][-1] == {
        key: value for key, value in changed.items() if key != "reference"
    }


def test_the_size_of_a_past_image_is_that_of_its_time(run: Run, past: Path) -> None:
    with opened(past) as connection:
        connection.execute(
            "INSERT INTO reference_history (reference, image_id, event, pinned, at, size)"
            " VALUES ('x', ?, 'new', 0, ?, 77)",
            (digest_of(b"x"), MIDNIGHT + 9 * DAY),
        )
        connection.commit()
    images = json.loads(run("images", "--as-of", "2026-12-31", "-o", "json").out)["images"]
    assert {image["id"]: image["size"] for image in images}[digest_of(b"x")] == "77"


def test_the_present_is_its_own_past(run: Run) -> None:
    assert run("images", "--as-of", "now", "--digests").out == run("images", "--digests").out


@pytest.mark.parametrize("command", [["images", "--as-of"], ["log", "--since"], ["diff", "--since"]])
def test_a_time_that_cannot_be_read_is_a_usage_error(run: Run, command: list[str]) -> None:
    result = run(*command, "late")
    assert (result.code, result.out) == (2, "")
    assert "invalid time 'late'" in result.err


@pytest.mark.usefixtures("past")
def test_what_has_changed_since_a_time(run: Run) -> None:
    result = run("diff", "--since", "2026-11-21 12:00", "-o", "json")
    assert result.code == 1
    assert json.loads(result.out)["differences"] == [
        {"reference": ODD, "difference": "added", "beforeId": None, "nowId": C},
        {"reference": APP, "difference": "gone", "beforeId": A, "nowId": None},
        {"reference": OTHER, "difference": "unpinned", "beforeId": B, "nowId": B},
    ]
    assert run("diff", "--since", "2026-11-25").code == 0


def log(run: Run, *options: str) -> list[tuple[str, str]]:
    lines = run("log", "--noheading", *options).lines
    return [(line.split()[1], line.split()[-1]) for line in lines]


@pytest.mark.usefixtures("past")
def test_the_log_has_the_newest_change_first(run: Run) -> None:
    assert log(run) == [(event, reference) for _, reference, _, event, _ in reversed(ROWS)]
    assert log(run, "-n", "2") == [("vanished", APP), ("new", ODD)]
    assert log(run, "-n", "0") == []
    assert len(log(run, "-n", str(10**30))) == len(ROWS)


@pytest.mark.usefixtures("past")
@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--since", "2026-11-24"], [6, 5]),
        (["--until", "2026-11-21"], [1]),
        (["--since", "2026-11-21", "--until", "2026-11-23"], [3, 2]),
        (["-f", "event=moved"], [3]),
        (["-f", "event=moved", "-f", "event=vanished"], [6, 3]),
        (["-f", "event!=new"], [6, 4, 3]),
        (["-f", "reference=app:*"], [6, 3, 1]),
        (["-f", "reference=docker.io/library/app:1", "-f", "reference=*/*/other:2"], [6, 4, 3, 2, 1]),
        (["-f", "reference!=app*", "-f", "event!=new"], [4]),
        (["-f", "reference=app@sha256:*"], [6, 3, 1]),
    ],
)
def test_the_log_can_be_narrowed(run: Run, options: list[str], expected: list[int]) -> None:
    rows = {number: (event, reference) for number, reference, _, event, _ in ROWS}
    assert log(run, *options) == [rows[number] for number in expected]


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("event=exploded", "use one of recorded, new"),
        ("reference=[", "invalid pattern"),
        ("size=1", "use reference=PATTERN or event=NAME"),
        ("event", "use reference=PATTERN"),
    ],
)
def test_a_wrong_filter_of_the_log_is_a_usage_error(run: Run, wrong: str, message: str) -> None:
    result = run("log", "-f", wrong)
    assert (result.code, result.out) == (2, "")
    assert message in result.err


@pytest.mark.usefixtures("past")
@pytest.mark.parametrize("name", [APP, "app:1", A, A.removeprefix("sha256:"), A[7:15]])
def test_the_history_is_found_by_any_name(run: Run, name: str) -> None:
    events = [line.split()[1] for line in run("image", "history", "-n", name).lines]
    assert events == (["new", "moved"] if A[7:15] in name else ["new", "moved", "vanished"])


@pytest.mark.usefixtures("past")
def test_a_reference_is_found_by_its_normal_form(run: Run) -> None:
    """The source spelt it `app2`."""
    document = json.loads(run("image", "history", "-o", "json", "docker.io/library/app2:latest").out)
    assert document["reference"] == ODD


@pytest.mark.usefixtures("past")
def test_the_life_of_an_image_id_has_its_names_and_what_replaced_it(run: Run) -> None:
    document = json.loads(run("image", "history", "-o", "json", A).out)
    assert document["imageID"] == A
    assert [(row["event"], row["reference"], row["imageID"]) for row in document["history"]] == [
        ("new", APP, A),
        ("moved", APP, B),
    ]


@pytest.mark.usefixtures("past")
def test_the_history_can_be_narrowed_by_time(run: Run) -> None:
    lines = run("image", "history", "-n", "--since", "2026-11-21", "--until", "2026-11-25", APP).lines
    assert [line.split()[1] for line in lines] == ["moved"]


def test_a_truncated_id_of_several_past_images_is_ambiguous(run: Run, past: Path) -> None:
    other = A[:-1] + ("0" if A[-1] != "0" else "1")
    with opened(past) as connection:
        connection.execute(
            "INSERT INTO reference_history (reference, image_id, event, pinned, at) VALUES ('x', ?, 'new', 0, 0)",
            (other,),
        )
        connection.commit()
    result = run("image", "history", A[7:20])
    assert result.code == 3
    assert A in result.err
    assert other in result.err


def test_following_shows_what_is_there_and_then_each_change(directory: Path, past: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "imagekeep", "--store", past, "log", "--follow", "-n", "1", "-o", "jsonl"],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    try:
        assert process.stdout
        assert json.loads(process.stdout.readline())["event"] == "vanished"
        with opened(past) as connection:
            connection.execute(
                "INSERT INTO reference_history (reference, image_id, event, pinned, at) VALUES (?, ?, 'new', 0, 0)",
                (APP, C),
            )
            connection.commit()
        assert json.loads(process.stdout.readline())["imageID"] == C
    finally:
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
        if process.stdout:
            process.stdout.close()


def test_following_needs_lines(run: Run) -> None:
    result = run("log", "--follow", "-o", "json")
    assert (result.code, result.out) == (2, "")
