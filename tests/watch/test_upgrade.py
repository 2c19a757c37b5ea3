"""Another release migrates the store while `watch` and `serve` of this one run."""

from __future__ import annotations

import shutil
import signal
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from imagekeep.database.connection import connect
from imagekeep.database.lock import writer_lock
from imagekeep.errors import SchemaVersionError
from imagekeep.reader import Reader
from imagekeep.store import Store
from tests.cli.conftest import write_layout
from tests.containerd import running, wait_until
from tests.cri.process import Process, serving
from tests.watch.process import Node, manager

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.containerd import Daemon

STORES = Path(__file__).parents[1] / "data/stores"
NEWER = "its schema is revision 9999, newer than"


def migrate_to_the_future(path: Path) -> None:
    """Change the schema as a later release could."""
    with writer_lock(path), closing(connect(path)) as connection:
        cursor = connection.cursor()
        cursor.execute("BEGIN IMMEDIATE")
        cursor.execute("ALTER TABLE images RENAME COLUMN chain_id TO layers_id")
        cursor.execute("UPDATE alembic_version SET version_num = '9999'")
        cursor.execute("COMMIT")


@pytest.fixture
def containerd(tmp_path: Path) -> Iterator[Daemon]:
    with running(tmp_path / "containerd") as daemon:
        yield daemon


def test_an_idle_watcher_stops_and_says_why(containerd: Daemon, tmp_path: Path) -> None:
    node = Node(tmp_path, f"containerd:{containerd.socket}")
    node.run("sync")
    with node.following() as watching:
        migrate_to_the_future(node.store)
        assert watching.wait() == 125
    assert NEWER in (tmp_path / "log").read_text()


def test_a_watcher_without_its_source_stops_too(tmp_path: Path) -> None:
    node = Node(tmp_path, f"containerd:{tmp_path / 'nothing'}")
    with (
        manager(tmp_path) as systemd,
        node.watching(NOTIFY_SOCKET=str(tmp_path / "notify")) as watching,
    ):
        assert systemd.recv(100) == b"READY=1"
        migrate_to_the_future(node.store)
        assert watching.wait() == 125
    assert NEWER in (tmp_path / "log").read_text()


@pytest.mark.parametrize("source", ["containerd", "layout"])
def test_a_server_stops_and_says_why(source: str, containerd: Daemon, tmp_path: Path) -> None:
    write_layout(tmp_path / "busybox")
    spec = {"containerd": f"containerd:{containerd.socket}", "layout": f"oci:{tmp_path / 'busybox'}"}[source]
    server = Process(tmp_path, source=spec)
    try:
        migrate_to_the_future(tmp_path / "images.db")
        assert server.wait() == 125
    finally:
        server.end(signal.SIGKILL)
    assert NEWER in server.log.read_text()


def test_a_reader_never_reads_another_schema(store_path: Path) -> None:
    with Store.open(store_path), Reader.open(store_path) as reader:
        assert reader.list() == []
        migrate_to_the_future(store_path)
        wait_until(lambda: refuses(reader))
        with pytest.raises(SchemaVersionError, match=NEWER):
            reader.list()


def refuses(reader: Reader) -> bool:
    """Return whether a reader refuses the store."""
    try:
        reader.counts()
    except SchemaVersionError:
        return True
    return False


@pytest.mark.parametrize("revision", sorted(path.stem for path in STORES.glob("*.db"))[:-1])
def test_this_release_starts_once_the_store_is_migrated(revision: str, tmp_path: Path) -> None:
    node = Node(tmp_path, f"containerd:{tmp_path / 'nothing'}")
    shutil.copy(STORES / f"{revision}.db", node.store)
    refused = node.run("watch")
    assert refused.returncode == 125
    assert "db migrate`" in refused.stderr
    assert node.run("db", "migrate").returncode == 0
    with serving(tmp_path) as server, server.client() as client:
        assert client.images()
