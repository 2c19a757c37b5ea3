"""`imagekeep ship` and `imagekeep fleet`, as an operator runs them."""

from __future__ import annotations

import functools
import json
import os
import signal
import subprocess
import sys
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from imagekeep import Reader, Store, internals
from imagekeep.cli import main
from imagekeep.database.backup import copy_store
from imagekeep.fleet.follow import Pace
from imagekeep.ship_status import read_ship_status
from tests.model import IMAGES

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.fleet.centres import Centre

APP = "docker.io/library/app:1"
TOOL = "registry.test/tool:2"


class Fleet:
    """A centre with three nodes, and the command."""

    def __init__(self, centre: Centre, directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.centre, self.directory, self._capsys = centre, directory, capsys
        self.nodes = ("web-1", "web-2", "web-3")

    def run(self, *arguments: str | Path, code: int = 0) -> list[str]:
        """Run a command of `fleet`; return its output as lines."""
        found = main(["fleet", *map(str, arguments)])
        out, err = self._capsys.readouterr()
        assert found == code, err
        return (out or err).splitlines()

    def ask(self, *arguments: str, code: int = 0) -> list[str]:
        """Run a question without headings."""
        return self.run(*arguments, "-n", code=code)

    def document(self, *arguments: str) -> Any:
        """Run a question; return its JSON."""
        return json.loads("\n".join(self.run(*arguments, "-o", "json")))

    def store(self, node: str) -> Path:
        """Return a node's store."""
        return self.directory / f"{node}.db"

    def credentials(self, node: str) -> Path:
        """Return a node's credential file."""
        return self.directory / f"{node}.credentials"

    def ship(self, node: str, code: int = 0) -> str:
        """Ship a node's store once; return what was said."""
        found = main(["--store", str(self.store(node)), "ship", "--credentials", str(self.credentials(node))])
        out, err = self._capsys.readouterr()
        assert found == code, err
        return out or err

    def point(self, node: str, reference: str, image: int | None, **changes: Any) -> None:
        """Change a node's reference."""
        with Store.open(self.store(node)) as store:
            observed = None if image is None else IMAGES[image]
            store.apply(reference, observed)
            if changes.get("pinned"):
                store.pin(IMAGES[image or 0].id, reference)


@pytest.fixture
def fleet(
    centre: Centre, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Fleet:
    """Enroll and ship three nodes: all have APP, one of them an older one, and one has TOOL pinned."""
    monkeypatch.setenv("IMAGEKEEP_FLEET", centre.url)
    fleet = Fleet(centre, tmp_path, capsys)
    tls = centre.server.tls(centre.database, "")
    url = f"postgresql://127.0.0.1:{tls['port']}/{centre.database}?sslrootcert={tls['sslrootcert']}"
    for number, node in enumerate(fleet.nodes):
        fleet.run("enroll", node, "-o", fleet.credentials(node), "--for-nodes", url)
        fleet.point(node, APP, 5 if number else 6)
    fleet.point("web-2", TOOL, 7, pinned=True)
    for node in fleet.nodes:
        fleet.ship(node)
    return fleet


def test_credentials_are_private_and_verify_the_server(fleet: Fleet) -> None:
    path = fleet.credentials("web-1")
    assert path.stat().st_mode & 0o777 == 0o600
    text = path.read_text()
    assert "sslmode = verify-full" in text
    assert "password = " in text


def test_credentials_that_others_can_read_are_refused(fleet: Fleet) -> None:
    fleet.credentials("web-1").chmod(0o640)
    assert "other users can read it (run `chmod 600`" in fleet.ship("web-1", code=4)


def test_an_existing_credential_file_is_not_overwritten_and_no_node_is_enrolled(fleet: Fleet) -> None:
    before = fleet.centre.rows("SELECT role_name FROM fleet.nodes ORDER BY 1")
    fleet.run("enroll", "web-1", "-o", fleet.credentials("web-1"), code=2)
    assert fleet.centre.rows("SELECT role_name FROM fleet.nodes ORDER BY 1") == before


def test_a_password_on_the_command_line_is_refused(fleet: Fleet) -> None:
    for url in ("postgresql://a:secret@h/d", "postgresql://h/d?password=secret"):
        [error] = fleet.run("status", "--to", url, code=2)
        assert "other users can see a password" in error
        assert "secret" not in error


def test_a_shipment_says_what_it_sent(fleet: Fleet) -> None:
    assert fleet.ship("web-1") == "shipped nothing new: at 1 of epoch 1\n"
    fleet.point("web-1", TOOL, 7)
    assert fleet.ship("web-1") == "shipped 1 change: at 2 of epoch 1\n"


def test_holds_finds_an_image_by_every_name(fleet: Fleet) -> None:
    image = IMAGES[5]
    layer = json.loads(image.config_json)["rootfs"]["diff_ids"][0]
    for name in (image.id, image.id[7:19], image.target_digest or "", (image.target_digest or "")[:20]):
        assert fleet.ask("holds", "-q", name) == ["web-2", "web-3"]
    assert fleet.ask("holds", "-q", layer) == ["web-1", "web-2", "web-3"]
    assert fleet.ask("holds", "-q", "app:1") == ["web-1", "web-2", "web-3"]
    assert fleet.ask("holds", "--count", TOOL) == ["1"]


def test_holds_shows_references_and_pins(fleet: Fleet) -> None:
    [found] = fleet.document("holds", TOOL)["nodes"]
    assert found.pop("since")
    assert found == {
        "node": "web-2",
        "reference": TOOL,
        "image_id": IMAGES[7].id,
        "target_digest": IMAGES[7].target_digest,
        "pinned": True,
    }


def test_holds_exits_1_if_no_node_has_it(fleet: Fleet) -> None:
    assert "no node has nothing:1" in fleet.run("holds", "nothing:1", code=1)[0]
    fleet.point("web-2", TOOL, None)
    fleet.ship("web-2")
    assert fleet.run("holds", "--count", IMAGES[7].id, code=1) == ["0"]


def test_lacks_shows_nodes_without_an_image_or_its_pin(fleet: Fleet) -> None:
    assert fleet.ask("lacks", "-q", TOOL) == ["web-1", "web-3"]
    assert fleet.ask("lacks", "-q", IMAGES[5].id) == ["web-1"]
    assert fleet.ask("lacks", "-q", "--pinned", IMAGES[5].id) == ["web-1", "web-2", "web-3"]
    assert fleet.ask("lacks", "-q", "--pinned", TOOL) == ["web-1", "web-3"]


def test_drift_shows_tags_that_differ(fleet: Fleet) -> None:
    rows = fleet.document("drift")["drift"]
    assert [(row["reference"], row["image_id"], row["nodes"]) for row in rows] == [
        (APP, IMAGES[5].id, 2),
        (APP, IMAGES[6].id, 1),
    ]
    assert fleet.document("drift", "app:1") == fleet.document("drift", "app") == {"drift": rows}
    assert fleet.ask("drift", "registry.test/tool") == []


def test_two_platforms_of_one_target_are_no_drift(fleet: Fleet) -> None:
    from dataclasses import replace

    for node, image in (("web-1", 8), ("web-2", 9)):
        with Store.open(fleet.store(node)) as store:
            store.apply(TOOL, replace(IMAGES[image], target_digest=IMAGES[8].target_digest))
        fleet.ship(node)
    assert fleet.ask("drift", TOOL) == []


def test_at_shows_what_a_node_had(fleet: Fleet) -> None:
    time.sleep(0.01)
    before = fleet.centre.one("SELECT clock_timestamp()::text")
    fleet.point("web-1", APP, 5)
    fleet.ship("web-1")
    for moment, image in ((before.replace("+00", "Z"), 6), ("now", 5)):
        [row] = fleet.document("at", "web-1", moment)["references"]
        assert (row["reference"], row["image_id"]) == (APP, IMAGES[image].id)
    assert "no such node" in fleet.run("at", "nobody", "now", code=1)[0]
    assert "is in the future" in fleet.run("at", "web-1", "2999-01-01", code=2)[0]


def test_rollout_counts_nodes_by_hour(fleet: Fleet) -> None:
    fleet.point("web-1", APP, 5)
    fleet.ship("web-1")
    fleet.point("web-3", APP, 6)
    fleet.ship("web-3")
    rows = fleet.document("rollout", IMAGES[5].id)["hours"]
    assert (sum(row["gained"] for row in rows), sum(row["lost"] for row in rows), rows[-1]["nodes"]) == (
        3,
        1,
        2,
    )
    assert fleet.run("rollout", APP, code=3)


def test_silent_shows_nodes_that_do_not_report(fleet: Fleet) -> None:
    assert fleet.ask("silent") == []
    fleet.centre.connection.execute(
        "UPDATE fleet.nodes SET reported_at = now() - interval '2 hours' WHERE name = 'web-3'"
    )
    assert [row["node"] for row in fleet.document("silent")["nodes"]] == ["web-3"]
    assert fleet.ask("silent", "--for", "3h") == []


def test_top_and_totals_count_bytes_of_the_fleet(fleet: Fleet) -> None:
    rows = fleet.document("top")["images"]
    assert [(row["image_id"], row["nodes"], row["bytes"]) for row in rows] == [
        (IMAGES[5].id, 2, 2 * IMAGES[5].size),
        (IMAGES[7].id, 1, IMAGES[7].size),
        (IMAGES[6].id, 1, IMAGES[6].size),
    ]
    [totals] = fleet.document("status", "--totals")["totals"]
    assert totals == {
        "nodes": 3, "silent_nodes": 0, "conflicted_nodes": 0, "node_references": 4, "pinned_references": 1,
        "images": 3, "node_images": 4, "bytes": sum(row["bytes"] for row in rows),
    }  # fmt: skip


def test_status_shows_every_node(fleet: Fleet) -> None:
    rows = fleet.document("status")["nodes"]
    assert [(row["node"], row["status"], row["epoch"]) for row in rows] == [
        (node, "active", 1) for node in fleet.nodes
    ]
    assert fleet.ask("status", "--conflicts") == []


@pytest.mark.parametrize(
    ("sql", "why"),
    [
        ("DELETE FROM node_references", "cannot delete from view"),
        ("SELECT 1; SELECT 2", "cannot insert multiple commands"),
        ("SELECT nothing", 'column "nothing" does not exist'),
        ("SELECT 1/0", "division by zero"),
        ("COPY (SELECT 1) TO PROGRAM 'true'", "COPY to or from an external program"),
        ("SELECT pg_read_file('/etc/passwd')", "permission denied for function pg_read_file"),
        ("SELECT * FROM fleet.nodes", "permission denied for table nodes"),
        ("CREATE TABLE fleet.t ()", "cannot execute CREATE TABLE in a read-only transaction"),
    ],
)
def test_a_query_only_reads(fleet: Fleet, sql: str, why: str) -> None:
    [error] = fleet.run("query", sql, code=2)
    assert why in error


def test_a_query_has_limits(fleet: Fleet) -> None:
    rows = fleet.run("query", "--limit", "2", "-n", "SELECT generate_series(1, 5) AS n")
    assert rows == ["1", "2"]
    assert "took too long" in fleet.run("query", "--timeout", "0.1", "SELECT pg_sleep(5)", code=125)[0]
    assert fleet.document("query", "SELECT 5 % 3 AS n, '%s' AS s") == {"rows": [{"n": 2, "s": "%s"}]}


def test_revoked_nodes_are_refused(fleet: Fleet) -> None:
    fleet.run("revoke", "web-1")
    assert "authentication failed" in fleet.ship("web-1", code=125)
    assert fleet.ask("holds", "-q", "app:1") == ["web-2", "web-3"]
    fleet.run("revoke", "nobody", code=1)


def test_prune_deletes_what_nothing_mentions(fleet: Fleet) -> None:
    fleet.point("web-2", TOOL, None)
    fleet.ship("web-2")
    assert fleet.run("prune", "--keep", "0s") == ["deleted 1 past range, 1 name and 1 image"]


def test_exports_give_the_same_answers_as_a_centre(fleet: Fleet) -> None:
    (fleet.directory / "exports").mkdir()
    for node in fleet.nodes:
        copy_store(fleet.store(node), fleet.directory / "exports" / f"{node}.db")
    source = ("--from", str(fleet.directory / "exports" / "*.db"))
    image = IMAGES[5]
    layer = json.loads(image.config_json)["rootfs"]["diff_ids"][0]
    questions: list[list[str]] = [
        *(["holds", "-q", name] for name in (image.id, image.id[7:19], image.target_digest or "", layer, "app:1")),
        ["holds", "--count", TOOL], ["lacks", "-q", TOOL], ["lacks", "-q", "--pinned", image.id],
        ["drift", "-o", "csv"],
        ["drift", "-o", "json", "app"], ["top", "-o", "json"], ["status", "--totals", "-o", "csv"],
    ]  # fmt: skip
    for question in questions:
        assert fleet.run(*question, *source) == fleet.run(*question), question
    for question in (["at", "web-1", "now"], ["rollout", image.id]):
        assert "exports hold no history" in fleet.run(*question, *source, code=2)[0]
    assert "needs a centre" in fleet.run("query", "SELECT 1", *source, code=2)[0]
    assert "no export matches" in fleet.run("top", "--from", "nowhere/*.db", code=125)[0]


def test_an_export_to_parquet_gives_the_same_answers(fleet: Fleet) -> None:
    duckdb = pytest.importorskip("duckdb")
    fleet.point("web-3", "number", 10)
    fleet.point("web-3", 'quoted "name", and more', 10)
    fleet.ship("web-3")
    directory = fleet.directory / "parquet"
    assert fleet.run("export", directory)[0] == str(directory / "node_status.parquet")
    columns = "node, reference, image_id, target_digest, pinned, size, repository, tag"
    here = fleet.centre.rows(
        f'SELECT {columns} FROM fleet.node_references ORDER BY node, reference COLLATE "C"'
    )
    with duckdb.connect() as connection:
        files = f"'{directory}/node_references.parquet'"
        there = connection.execute(f"SELECT {columns} FROM {files} ORDER BY node, reference").fetchall()
        totals = connection.execute(
            f"SELECT bytes, images FROM '{directory}/fleet_totals.parquet'"
        ).fetchall()
    assert there == here
    assert totals == fleet.centre.rows("SELECT bytes, images FROM fleet.fleet_totals")
    assert "already exists" in fleet.run("export", directory, code=2)[0]


def test_info_shows_what_was_shipped_and_why_not(fleet: Fleet, capsys: pytest.CaptureFixture[str]) -> None:
    fleet.point("web-1", TOOL, 7)
    fleet.run("revoke", "web-1")
    fleet.ship("web-1", code=125)
    assert main(["--store", str(fleet.store("web-1")), "db", "info", "-o", "json"]) == 0
    shipping = json.loads(capsys.readouterr().out)["shipping"]
    assert shipping["centre"] == f"centre 127.0.0.1/{fleet.centre.database}"
    assert (shipping["waiting"], shipping["failures"]) == (1, 1)
    assert shipping["lastShipped"] <= shipping["lastTried"]
    assert "authentication failed" in shipping["lastError"]
    assert main(["--store", str(fleet.store("web-1")), "db", "info"]) == 0
    assert "changes to ship" in capsys.readouterr().out


def test_a_second_migration_does_nothing(fleet: Fleet) -> None:
    assert fleet.run("migrate") == ["nothing to do: the schema is at revision 0001"]


def test_a_database_without_a_schema_is_named(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMAGEKEEP_FLEET", fleet.centre.server.url("postgres"))
    assert "run `imagekeep fleet migrate`" in fleet.run("status", code=4)[0]


def test_a_centre_that_is_down_is_named(fleet: Fleet) -> None:
    text = fleet.credentials("web-1").read_text()
    fleet.credentials("web-1").write_text(text.replace("port = ", "port = 1 # ").replace(" # ", "\n#"))
    assert "centre 127.0.0.1/" in fleet.ship("web-1", code=125)


def wait_until(is_true: Callable[[], bool]) -> None:
    """Wait until something is true; fail after a minute."""
    deadline = time.monotonic() + 60
    while not is_true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def is_shipped(path: Path, sequence: int) -> bool:
    """Return whether the status beside a store says that a row was shipped."""
    status = read_ship_status(path)
    return status is not None and status.sequence == sequence


def test_following_ships_changes_until_it_is_stopped(fleet: Fleet) -> None:
    path = fleet.store("web-1")
    program = [sys.executable, "-m", "imagekeep", "--store", str(path), "ship", "--follow", "--interval", "1"]
    environment = {**os.environ, "IMAGEKEEP_FLEET_CREDENTIALS": str(fleet.credentials("web-1"))}
    with subprocess.Popen(program, env=environment, stderr=subprocess.PIPE) as follower:
        try:
            for image in (8, 9):
                fleet.point("web-1", TOOL, image)
                with Store.open(path) as store:
                    newest = internals.feed_end(store)[0].sequence
                wait_until(functools.partial(is_shipped, path, newest))
        finally:
            follower.send_signal(signal.SIGTERM)
        assert follower.wait(30) == 0
    assert fleet.ask("holds", "-q", TOOL) == ["web-1", "web-2"]


def test_the_pace_backs_off_to_an_hour_and_is_spread() -> None:
    pace = Pace()
    assert [pace.wait(failures, 0.5) for failures in range(8)] == [300, 120, 240, 480, 960, 1920, 3600, 3600]
    assert (pace.wait(0, 0), pace.wait(0, 1)) == (150, 450)
    assert pace.wait(10**6, 0.5) == 3600


def test_the_metrics_show_what_was_shipped(fleet: Fleet) -> None:
    metrics = pytest.importorskip("imagekeep.cri.store_metrics")
    with Reader.open(fleet.store("web-1")) as reader:
        report = SimpleNamespace(state=lambda: None, is_watching=lambda: False)
        collector = metrics.StoreCollector(reader, report, None, None)
        found = {metric.name: metric.samples[0].value for metric in collector.collect() if metric.samples}
    assert found["imagekeep_ship_failures"] == 0
    assert 0 <= found["imagekeep_shipped_seconds"] < 600
