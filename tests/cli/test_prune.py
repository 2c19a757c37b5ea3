"""`imagekeep image prune` on a real containerd."""

from __future__ import annotations

import json
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest

from imagekeep import Store
from imagekeep.cli import main
from imagekeep.errors import ImagePinnedError
from imagekeep.image_actions import Actions
from imagekeep.sources.containerd import Containerd
from tests.cli.conftest import Result

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


def names(daemon: Daemon, namespace: str) -> list[str]:
    with closing(Containerd(daemon.socket, namespace=namespace)) as source:
        return sorted(record.reference for record in source.records())


def test_a_dry_run_shows_what_would_go(
    prune: Run, ids: dict[str, str], daemon: Daemon, namespace: str
) -> None:
    result = prune("--dry-run")
    assert result.code == 0
    assert {line.split()[0] for line in result.lines[1:]} == {image_id[7:20] for image_id in ids.values()}
    assert names(daemon, namespace) == sorted([APP, SECOND, OTHER])


def test_without_a_terminal_it_needs_force(
    prune: Run, ids: dict[str, str], daemon: Daemon, namespace: str
) -> None:
    result = prune()
    assert result.code == 4
    assert "use --force" in result.err
    assert len(names(daemon, namespace)) == 3


def test_force_removes_what_is_neither_used_nor_pinned(
    prune: Run, ids: dict[str, str], daemon: Daemon, namespace: str
) -> None:
    with closing(Containerd(daemon.socket, namespace=namespace)) as source:
        source.pin(OTHER)
    result = prune("--force")
    assert result.code == 0
    assert result.lines[-1] == f"Deleted: {ids[APP]}"
    assert names(daemon, namespace) == [OTHER]
    assert "nothing to prune" in prune("--force").err


def test_only_images_that_match_go(prune: Run, ids: dict[str, str], daemon: Daemon, namespace: str) -> None:
    assert prune("--force", "--filter", "reference=other").code == 0
    assert names(daemon, namespace) == sorted([APP, SECOND])
    assert prune("--force", "--filter", "nothing=1").code == 2


def ask(
    daemon: Daemon, namespace: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], *words: str
) -> dict[str, Any]:
    """Sync the store and return the JSON answer of a command."""
    store = ["--store", str(tmp_path / "images.db"), "--namespace", namespace]
    assert main([*store, "--source", f"containerd:{daemon.socket}", "sync"]) == 0
    capsys.readouterr()
    assert main([*store, *words, "-o", "json"]) == 0
    answer: dict[str, Any] = json.loads(capsys.readouterr().out)
    return answer


def content_of(daemon: Daemon, namespace: str) -> int:
    """Return the bytes in the content store."""
    with closing(Containerd(daemon.socket, namespace=namespace)) as source:
        return sum(source.contents().values())


def test_a_container_keeps_its_image(
    daemon: Daemon,
    namespace: str,
    tmp_path: Path,
    prune: Run,
    ids: dict[str, str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    daemon.make_runnable(tmp_path / "run", "docker.io/library/run:v1", namespace=namespace)
    daemon.make_container("docker.io/library/run:v1", "one", namespace=namespace)
    explained = ask(daemon, namespace, tmp_path, capsys, "image", "explain", "run:v1")
    assert [container["id"] for container in explained["containers"]] == ["one"]
    assert explained["kubelet"]["kept_by"] == ["used by container one"]
    assert explained["last_used"]
    used = ask(daemon, namespace, tmp_path, capsys, "df")
    assert (used["images"], used["in_use"], used["reclaimable"]) == (3, 1, 2)
    assert prune("--force").code == 0
    assert names(daemon, namespace) == ["docker.io/library/run:v1"]
    daemon.remove_container("one", namespace=namespace)
    assert prune("--force").code == 0
    assert names(daemon, namespace) == []


def test_what_is_freed_is_what_the_content_store_loses(
    daemon: Daemon,
    namespace: str,
    tmp_path: Path,
    prune: Run,
    ids: dict[str, str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = ask(daemon, namespace, tmp_path, capsys, "df")["content_bytes"]
    told = ask(daemon, namespace, tmp_path, capsys, "image", "size", APP, SECOND)
    assert told["freed_content_bytes"] is not None
    assert prune("--force", "--filter", "reference=app").code == 0
    # An import leaves blobs that no image needs until the next garbage collection, which the removal waits for.
    assert content_of(daemon, namespace) == before - told["freed_content_bytes"]


def test_a_pin_that_came_meanwhile_is_respected(
    daemon: Daemon, namespace: str, tmp_path: Path, ids: dict[str, str]
) -> None:
    with (
        closing(Containerd(daemon.socket, namespace=namespace)) as source,
        Store.open(tmp_path / "images.db", source=source) as store,
    ):
        actions = Actions.begin(store)
        source.pin(SECOND)
        with pytest.raises(ImagePinnedError, match="nothing of it was removed"):
            actions.prune(ids[APP], [APP, SECOND])
    assert names(daemon, namespace) == sorted([APP, SECOND, OTHER])
