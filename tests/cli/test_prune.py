"""`imagekeep image prune` on a real containerd."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from imagekeep import Store
from imagekeep.cli import main
from imagekeep.sources.containerd import Containerd
from tests.cli.conftest import Result
from tests.database.rows import opened

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import Run
    from tests.containerd import Daemon

APP, SECOND, OTHER = "docker.io/library/app:v1", "example.test/app:v2", "docker.io/library/other:v1"


@pytest.fixture
def ids(daemon: Daemon, namespace: str, tmp_path: Path) -> dict[str, str]:
    """Make two images, one of them with two references, and a store of them; return their ids."""
    made = {
        APP: daemon.make_image(tmp_path / "app", APP, SECOND, namespace=namespace),
        OTHER: daemon.make_image(tmp_path / "other", OTHER, namespace=namespace),
    }
    with (
        closing(Containerd(daemon.socket, namespace=namespace)) as source,
        Store.open(tmp_path / "images.db", source=source) as store,
    ):
        store.sync()
    return {name: str(image["image_id"]) for name, image in made.items()}


@pytest.fixture
def prune(daemon: Daemon, namespace: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    before = ["--store", str(tmp_path / "images.db"), "--source", f"containerd:{daemon.socket}"]

    def run(*arguments: str | Path) -> Result:
        code = main([*before, "--namespace", namespace, "image", "prune", *map(str, arguments)])
        return Result(code, *capsys.readouterr())

    return run


def look(store: Path) -> None:
    """Record that the source was asked for its containers, and had none."""
    with opened(store) as connection:
        connection.execute("UPDATE content_look SET containers_at = 1 WHERE containers_at IS NULL")
        connection.commit()


def names(daemon: Daemon, namespace: str) -> list[str]:
    with closing(Containerd(daemon.socket, namespace=namespace)) as source:
        return sorted(record.reference for record in source.records())


def test_a_dry_run_shows_what_would_go(
    prune: Run, ids: dict[str, str], daemon: Daemon, namespace: str, tmp_path: Path
) -> None:
    look(tmp_path / "images.db")
    result = prune("--dry-run")
    assert result.code == 0
    assert {line.split()[0] for line in result.lines[1:]} == {image_id[7:20] for image_id in ids.values()}
    assert names(daemon, namespace) == sorted([APP, SECOND, OTHER])


def test_without_a_terminal_it_needs_force(
    prune: Run, ids: dict[str, str], daemon: Daemon, namespace: str, tmp_path: Path
) -> None:
    look(tmp_path / "images.db")
    result = prune()
    assert result.code == 4
    assert "use --force" in result.err
    assert len(names(daemon, namespace)) == 3


def test_force_removes_what_is_neither_used_nor_pinned(
    prune: Run, ids: dict[str, str], daemon: Daemon, namespace: str, tmp_path: Path
) -> None:
    look(tmp_path / "images.db")
    with closing(Containerd(daemon.socket, namespace=namespace)) as source:
        source.pin(OTHER)
    result = prune("--force")
    assert result.code == 0
    assert result.lines[-1] == f"Deleted: {ids[APP]}"
    assert names(daemon, namespace) == [OTHER]
    assert "nothing to prune" in prune("--force").err


def test_only_images_that_match_go(
    prune: Run, ids: dict[str, str], daemon: Daemon, namespace: str, tmp_path: Path
) -> None:
    look(tmp_path / "images.db")
    assert prune("--force", "--filter", "reference=other").code == 0
    assert names(daemon, namespace) == sorted([APP, SECOND])
    assert prune("--force", "--filter", "nothing=1").code == 2
