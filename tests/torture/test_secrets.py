"""Environments and labels appear in no log, error, view or metric, and in no file that others can read."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from imagekeep.cli.logs import start_logging
from imagekeep.cri.metrics import Metrics
from imagekeep.cri.watcher_thread import OtherWatcher
from imagekeep.reader import Reader
from imagekeep.store import Store
from imagekeep.watch import Watcher, WatchIntervals
from tests.cri.client import page_of
from tests.images import OCI_CONFIG, OCI_MANIFEST, LayoutWriter, named
from tests.torture.fuzz import SECRET
from tests.watch.conftest import running
from tests.watch.watched import WatchedSource

if TYPE_CHECKING:
    from pathlib import Path

BROKEN: dict[str, Any] = {
    "not JSON": f'{{"config": {{"Env": ["A={SECRET}"]}}, {SECRET}',
    "an environment of another type": json.dumps({"config": {"Env": SECRET}}),
    "a label of another type": json.dumps({"config": {"Labels": {SECRET: 5}}}),
    "an invalid time": json.dumps({"created": SECRET, "config": {"Env": [SECRET]}}),
    "an invalid layer": json.dumps({"rootfs": {"diff_ids": [{"a": SECRET}]}}),
    "an invalid number": json.dumps({"config": {"Env": [SECRET]}, "history": [{"empty_layer": SECRET}]}),
    "a list": json.dumps([SECRET]),
    "a key twice": f'{{"os": "linux", "os": 5, "config": {{"Env": ["{SECRET}"]}}}}',
}


def manifest_of(layout: LayoutWriter, config: str) -> dict[str, Any]:
    """Write a manifest with exactly this config."""
    content = config.encode()
    described = {"mediaType": OCI_CONFIG, "digest": layout.blob(content), "size": len(content)}
    return layout.document(
        {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": described, "layers": []}, OCI_MANIFEST
    )


@pytest.fixture
def layout(tmp_path: Path) -> LayoutWriter:
    """Write a layout of an image with a secret, and of images with broken configs that contain it."""
    writer = LayoutWriter(tmp_path / "layout")
    whole = writer.image(environment=[f"TOKEN={SECRET}"])
    broken = [
        named(manifest_of(writer, text), f"broken-{number}") for number, text in enumerate(BROKEN.values())
    ]
    writer.write_index([named(whole, "whole"), *broken])
    return writer


COMMANDS = [
    *(["sync"], ["sync", "--verify"], ["sync", "--dry-run", "--verify"], ["diff"], ["diff", "-o", "json"]),
    *(["images"], ["images", "--digests", "--no-trunc"], ["images", "-o", "json"], ["images", "-o", "yaml"]),
    *(["image", "history", "layout:whole"], ["image", "inspect", "-o", "table", "layout:whole"]),
    *(
        ["image", "inspect", "nowhere"],
        ["image", "inspect", f"{'0' * 64}"],
        ["image", "exists", "layout:whole"],
    ),
    *(["db", "info"], ["db", "info", "-o", "json"], ["db", "check"], ["db", "backup"], ["db", "migrate"]),
    *(
        ["query", "SELECT * FROM image_list"],
        ["query", "SELECT * FROM reference_list"],
        ["query", "SELECT document"],
    ),
    *(["query", "SELECT * FROM config_list"], ["query", "SELECT * FROM history_list"]),
    *(["query", "SELECT * FROM incomplete_refs"], ["query", "SELECT * FROM watcher"]),
]


def imagekeep(layout: LayoutWriter, path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run imagekeep with the layout as the source of the store at `path`."""
    options = ["--store", str(path), "--source", f"oci:{layout.directory}"]
    return subprocess.run(
        [sys.executable, "-m", "imagekeep", *options, *arguments], capture_output=True, text=True, check=False
    )


def test_no_command_prints_a_secret_that_was_not_requested(layout: LayoutWriter, tmp_path: Path) -> None:
    printed = {}
    for arguments in COMMANDS:
        done = imagekeep(layout, tmp_path / "images.db", *arguments)
        assert done.returncode in (0, 1, 2, 5, 125), done.stderr
        printed[" ".join(arguments)] = done.stdout + done.stderr
    assert [command for command, text in printed.items() if SECRET in text] == []
    assert "broken-0: " in printed["sync"]


def test_nothing_of_a_broken_config_is_stored(layout: LayoutWriter, tmp_path: Path) -> None:
    path = tmp_path / "images.db"
    imagekeep(layout, path, "sync", "-q")
    connection = sqlite3.connect(path)
    everything = "\n".join(connection.iterdump())
    secret = SECRET.encode()
    config = "SELECT document FROM images JOIN documents ON blob_key = config_key"
    (kept,) = connection.execute(config).fetchone()
    connection.close()
    assert secret in kept
    assert everything.count(secret.hex().upper()) == 1
    assert SECRET not in everything


@pytest.mark.parametrize("form", ["text", "json"])
def test_no_log_has_a_secret_at_any_level(
    form: str, store_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = WatchedSource()
    source.put("docker.io/library/whole:1", 1)
    for number, config in enumerate(BROKEN.values()):
        content = config.encode()
        source.point(f"docker.io/library/broken:{number}", source.add_manifest(config=content))
    with Store.open(store_path, source=source, platform="linux/amd64") as store:
        start_logging(form, "debug")
        with running(
            Watcher(store, source_name="memory", intervals=WatchIntervals(settle=0.01, reconcile=0.01))
        ) as watcher:
            while watcher.state.reconciles < 2:
                continue
        state = store.watcher()
    said = capsys.readouterr().err
    assert "cannot read docker.io/library/broken:0" in said
    assert SECRET not in said
    assert SECRET not in str(state)


def test_no_metric_has_a_secret(layout: LayoutWriter, tmp_path: Path) -> None:
    path = tmp_path / "images.db"
    imagekeep(layout, path, "sync", "-q")
    with Reader.open(path) as reader:
        page = page_of(Metrics(reader, OtherWatcher(reader)))
    assert "imagekeep_images 1.0" in page
    assert SECRET not in page


EVERY_FILE = """
import os, sys
from pathlib import Path
os.umask(int(sys.argv[1], 8))
from imagekeep import Store
from imagekeep.cli import main
directory = Path(sys.argv[2]) / "made"
store = Store.open(directory / "images.db", platform="linux/amd64")
store.apply("a", None)
for command in (["db", "backup"], ["db", "export", str(directory / "export.db")], ["db", "check"]):
    code = main(["--store", str(directory / "images.db"), *command])
    assert code == 0, command
main(["--store", str(directory / "other.db"), "--source", f"oci:{sys.argv[3]}", "sync", "-q"])
Store.open(directory / "export.db", platform="linux/amd64")
for entry in [directory, *directory.iterdir()]:
    print(oct(entry.stat().st_mode & 0o7777), entry.name, flush=True)
os._exit(0)
"""


@pytest.mark.parametrize("umask", ["000", "022", "077", "377", "777"])
def test_every_file_is_private_with_any_umask(umask: str, layout: LayoutWriter, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", EVERY_FILE, umask, str(tmp_path), str(layout.directory)],
        capture_output=True,
        text=True,
        check=False,
    )
    lines = [line.split() for line in done.stdout.splitlines() if line.startswith("0o")]
    modes = {name: mode for mode, name in lines}
    assert done.returncode == 0, done.stderr
    assert modes.pop("made") == "0o700"
    assert len(modes) >= 8, modes
    assert set(modes.values()) == {"0o600"}, modes
