"""The named queries, on the example store."""

from __future__ import annotations

import contextlib
import json
import re
from typing import TYPE_CHECKING

import pytest

from imagekeep.cli import main
from imagekeep.database.connection import connect
from imagekeep.named_queries import TOOLS, named_queries
from imagekeep.reader import Reader
from imagekeep.schema import metadata, views
from imagekeep.store import Store
from tests import demo_store
from tests.database.stores import thawed
from tests.demo_store import API, APP_1, APP_2, BASE, EXPORTER, RUNTIME, SECRETS, WEB, WEB_AGAIN
from tests.images import LayoutWriter, named

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import Run

QUERIES = named_queries()
APP = "docker.io/library/app"


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example store."""
    path = tmp_path_factory.mktemp("named") / "demo.db"
    demo_store.make_demo_store(path)
    return path


def answer(store: Path, name: str, **given: str) -> list[tuple[object, ...]]:
    """Return the rows that answer a question."""
    query = QUERIES[name]
    with contextlib.closing(connect(store, read_only=True)) as connection:
        return connection.execute(query.sql, query.values(given)).fetchall()


def test_there_are_thirty_questions() -> None:
    assert len(QUERIES) == 30
    assert all(query.question.endswith("?") for query in QUERIES.values())


def test_no_query_has_the_name_of_a_table_or_view() -> None:
    assert not QUERIES.keys() & {*metadata.tables, *views.tables}


@pytest.mark.parametrize("name", QUERIES)
def test_a_query_is_described_and_its_example_has_an_answer(demo: Path, name: str) -> None:
    query = QUERIES[name]
    assert set(query.nearest) <= set(TOOLS)
    assert set(query.example) <= set(query.parameters)
    assert answer(demo, name, **query.example)


@pytest.mark.parametrize("name", QUERIES)
def test_a_query_shows_no_secret(demo: Path, name: str) -> None:
    assert not any(secret in str(answer(demo, name, **QUERIES[name].example)) for secret in SECRETS)


@pytest.mark.parametrize("name", QUERIES)
def test_a_query_reads_only_views(name: str) -> None:
    read = set(re.findall(r"\b(?:FROM|JOIN)\s+(\w+)", QUERIES[name].sql))
    assert read - {"chosen", "content", "held", "json_each", "totals"} <= set(views.tables)


MORNING = "2026-11-20 03:00"

ANSWERS: list[tuple[str, dict[str, str], list[object]]] = [
    ("latest-at", {"reference": "app:latest", "time": MORNING}, [APP_1.id]),
    ("latest-at", {"reference": f"{APP}:latest", "time": ""}, [APP_2.id]),
    ("latest-at", {"reference": "app:latest", "time": "2026-11-01"}, []),
    ("unused", {}, [API.id, WEB_AGAIN.id, EXPORTER.id, demo_store.TOOLS.id, WEB.id]),
    ("shared-layers", {}, [RUNTIME.digest, BASE.digest]),
    ("untagged", {}, [EXPORTER.id]),
    ("outdated-containers", {}, [APP_1.id]),
    ("platform", {"platform": "arm64"}, ["registry.example:5000/team/api:1.4"]),
    ("platform", {"platform": "s390x"}, []),
    ("vanished", {}, ["docker.io/library/old:1"]),
    ("grown", {}, [APP_2.size - APP_1.size]),
    ("life", {"id": APP_1.id[7:17]}, [APP_2.id]),
    ("settings", {"reference": "app:v1"}, ["SIGINT", '["8080/tcp"]']),
    ("root", {}, ["ghcr.io/acme/web:1-rebuilt", "ghcr.io/acme/tools:3"]),
    ("incomplete", {}, ["ghcr.io/acme/broken:2", "ghcr.io/acme/tools:3"]),
]


@pytest.mark.parametrize(("name", "given", "values"), ANSWERS)
def test_the_answer_has_these_values(
    demo: Path, name: str, given: dict[str, str], values: list[object]
) -> None:
    rows = answer(demo, name, **given)
    assert [value for value in values if not any(value in row for row in rows)] == []
    assert bool(rows) == bool(values)


def test_the_node_at_a_time_is_what_had_come_and_not_gone(demo: Path) -> None:
    at = {row[0] for row in answer(demo, "node-at", time="2026-11-10")}
    assert {"docker.io/library/old:1", f"{APP}:v1"} <= at
    later = {row[0] for row in answer(demo, "node-at", time=MORNING)}
    assert at - later == {"docker.io/library/old:1"}
    assert {row[0] for row in answer(demo, "node-at")} - later == {f"{APP}:v2"}


def test_deleting_images_frees_what_no_other_image_needs(demo: Path) -> None:
    freed = sum(each.size for each in {*APP_1.layers, *APP_2.layers} - {BASE})
    freed += sum(len(text) for build in (APP_1, APP_2) for text in (build.document, build.manifest))
    assert answer(demo, "freed", references=f"{APP}:latest {APP}:v1") == [(2, freed, BASE.size)]
    assert answer(demo, "freed", references="nothing") == [(0, 0, 0)]


def test_disk_counts_shared_content_once(demo: Path) -> None:
    images, added_up, content, _ = answer(demo, "disk")[0]
    assert images == 8
    assert int(str(content)) < int(str(added_up))


def test_a_change_for_another_platform_does_not_answer_for_the_first(tmp_path: Path) -> None:
    layout = LayoutWriter(tmp_path / "shop")
    name, path = "example.com/shop:1", tmp_path / "images.db"
    for size in (1, 2):
        layout.write_index([named(layout.multi_platform({"arm64": (b"arm" * size,)}), name)])
        with Store.open(
            path, source=f"oci:{layout.directory}", platforms=["linux/amd64", "linux/arm64"]
        ) as store:
            store.sync([name])
    with Reader.open(path) as reader:
        first = reader.resolve(name)
    assert [row[2] for row in answer(path, "latest-at", reference=name)] == [first]
    assert [row[4] for row in answer(path, "life", id=first)] == [None, None]
    assert answer(path, "moved") == []
    layout.write_index([])
    with Store.open(path, source=f"oci:{layout.directory}") as store:
        store.sync([name])
    assert [row[0] for row in answer(path, "vanished")] == [name]


# The command


def test_the_queries_are_listed(run: Run) -> None:
    listed = json.loads(run("query", "--named", "-o", "json").out)["queries"]
    assert [each["name"] for each in listed] == list(QUERIES)
    assert len(run("query", "-n", "--named").lines) == 30


def test_the_sql_is_shown(run: Run) -> None:
    assert run("query", "--named", "largest", "--show").out == QUERIES["largest"].sql


def test_a_named_query_runs_with_its_parameters(run: Run) -> None:
    result = run("query", "--named", "latest-at", "-n", "-p", "reference=busybox:1.36")
    assert (result.code, len(result.lines), result.lines[0].split()[1]) == (0, 1, "new")


def test_every_named_query_runs_on_a_synced_store(run: Run) -> None:
    for name in QUERIES:
        assert run("query", "--named", name, "-o", "csv").code == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--named", "largset"], "query: no such named query: largset (did you mean 'largest'?)"),
        (["--named", "x"], "query: no such named query: x (`imagekeep query --named` lists them)"),
        (["--named", "largest", "-p", "a=1"], "query: the statement has no parameter :a"),
        (["--named", "largest", "-f", "q.sql"], "give either a query or --named"),
        (["--show", "SELECT 1"], "--show needs --named NAME"),
    ],
)
def test_a_mistake_is_explained(run: Run, arguments: list[str], message: str) -> None:
    result = run("query", *arguments)
    assert (result.code, result.out) == (2, "")
    assert message in result.err


def test_an_older_store_is_told_to_migrate(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--store", str(thawed("0004", tmp_path / "old.db")), "query", "--named", "largest"]) == 125
    assert "db migrate" in capsys.readouterr().err
