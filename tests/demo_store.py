"""The example store of docs/questions.md: a small node with everything that the questions ask about.

It is made row by row, because its times must be the same whenever it is made. Every document has its digest, so
that `imagekeep db check` accepts it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from imagekeep.database.connection import connect
from imagekeep.database.create import open_or_create
from imagekeep.oci.image import chain_id
from imagekeep.reference import sort_key

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from imagekeep.database.driver import sqlite

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"

SECRETS = ("hunter2-in-env", "hunter2-in-labels", "hunter2-in-history")
"""Planted in every config; no view, question or page may show them."""


def moment(text: str) -> int:
    """Return the microseconds since 1970 of a time in UTC."""
    return int(datetime.fromisoformat(f"{text}+00:00").timestamp()) * 1_000_000


def digest(content: str) -> str:
    """Return the sha256 digest of a text."""
    return f"sha256:{hashlib.sha256(content.encode()).hexdigest()}"


@dataclass(frozen=True)
class Layer:
    """A layer: its name, from which its digests follow, and its sizes in bytes."""

    name: str
    size: int
    present: bool = True

    @property
    def digest(self) -> str:
        return digest(f"gzip {self.name}")

    @property
    def diff_id(self) -> str:
        return digest(f"tar {self.name}")


@dataclass(frozen=True)
class Build:
    """An image for one platform."""

    created: str
    layers: tuple[Layer, ...]
    config: Mapping[str, Any] = field(default_factory=dict)
    architecture: str = "amd64"

    @property
    def document(self) -> str:
        env, label, history = SECRETS
        config = {"Env": ["PATH=/bin", f"TOKEN={env}"], "Labels": {"key": label}, **self.config}
        return json.dumps(
            {
                "created": self.created,
                "architecture": self.architecture,
                "os": "linux",
                "config": config,
                "history": [{"created_by": f"ENV TOKEN={history}"}],
                "rootfs": {"type": "layers", "diff_ids": self.diff_ids},
            }
        )

    @property
    def manifest(self) -> str:
        layers = [{"mediaType": LAYER, "digest": each.digest, "size": each.size} for each in self.layers]
        config = {"mediaType": CONFIG, "digest": self.id, "size": len(self.document)}
        return json.dumps({"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": layers})

    @property
    def id(self) -> str:
        return digest(self.document)

    @property
    def diff_ids(self) -> list[str]:
        return [layer.diff_id for layer in self.layers]

    @property
    def size(self) -> int:
        return len(self.manifest) + len(self.document) + sum(layer.size for layer in self.layers)


def index_of(builds: Sequence[Build]) -> str:
    """Return an index of builds for several platforms."""
    manifests = [
        {
            "mediaType": MANIFEST,
            "digest": digest(build.manifest),
            "size": len(build.manifest),
            "platform": {"os": "linux", "architecture": build.architecture},
        }
        for build in builds
    ]
    return json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests})


BASE = Layer("base", 2_811_478)
RUNTIME = Layer("runtime", 18_332_155)

PAUSE = Build("2024-05-21T08:00:00Z", (Layer("pause", 318_111),), {"User": "65535", "Entrypoint": ["/pause"]})
APP_1 = Build(
    "2026-11-02T09:12:00Z",
    (BASE, RUNTIME, Layer("app v1", 4_120_338)),
    {"User": "app", "Entrypoint": ["/app"], "ExposedPorts": {"8080/tcp": {}}, "StopSignal": "SIGINT"},
)
APP_2 = Build(
    "2026-11-20T16:40:00Z",
    (BASE, RUNTIME, Layer("app v2", 6_790_004)),
    {"User": "app", "Entrypoint": ["/app"], "ExposedPorts": {"8080/tcp": {}, "9090/tcp": {}}},
)
API = Build(
    "2026-10-01T12:00:00Z",
    (BASE, Layer("api", 9_002_417)),
    {"Cmd": ["serve"], "Entrypoint": ["/api"], "Volumes": {"/data": {}}},
)
API_ARM = Build(
    "2026-10-01T12:00:00Z", (Layer("base arm64", 2_700_120), Layer("api arm64", 8_800_991)), {}, "arm64"
)
WEB = Build("2026-09-15T07:30:00Z", (BASE, Layer("web", 1_504_882)), {"User": "root", "Cmd": ["nginx"]})
WEB_AGAIN = Build("2026-09-16T07:30:00Z", WEB.layers, {"User": "root", "Cmd": ["nginx", "-g", "daemon off;"]})
EXPORTER = Build("2026-03-03T10:00:00Z", (Layer("exporter", 12_440_900),), {"User": "nobody"})
TOOLS = Build("2026-08-08T08:08:08Z", (BASE, Layer("tools", 30_118_004, present=False)))

API_BUILDS = (API, API_ARM)
EXPORTER_NAME = f"quay.io/prometheus/node-exporter@{digest(EXPORTER.manifest)}"

IMAGES: tuple[tuple[tuple[str, ...], tuple[Build, ...], str], ...] = (
    (("registry.k8s.io/pause:3.10",), (PAUSE,), "2026-11-01T06:00:00"),
    (("docker.io/library/app:v1",), (APP_1,), "2026-11-03T10:00:00"),
    (("docker.io/library/app:latest", "docker.io/library/app:v2"), (APP_2,), "2026-11-21T04:30:00"),
    (("registry.example:5000/team/api:1.4",), API_BUILDS, "2026-11-05T09:00:00"),
    (("ghcr.io/acme/web:1",), (WEB,), "2026-11-06T09:00:00"),
    (("ghcr.io/acme/web:1-rebuilt",), (WEB_AGAIN,), "2026-11-07T09:00:00"),
    ((EXPORTER_NAME,), (EXPORTER,), "2026-11-08T09:00:00"),
    (("ghcr.io/acme/tools:3",), (TOOLS,), "2026-11-09T09:00:00"),
)
"""The names of each image, its builds with the node's own first, and when it came."""

OLD = digest("an image that is gone")

HISTORY = (
    ("2026-11-01T06:00:00", "registry.k8s.io/pause:3.10", "new", PAUSE, 0),
    ("2026-11-01T06:00:05", "registry.k8s.io/pause:3.10", "pinned", PAUSE, 1),
    ("2026-11-02T08:00:00", "docker.io/library/old:1", "new", None, 0),
    ("2026-11-03T10:00:00", "docker.io/library/app:v1", "new", APP_1, 0),
    ("2026-11-03T10:00:00", "docker.io/library/app:latest", "new", APP_1, 0),
    ("2026-11-05T09:00:00", "registry.example:5000/team/api:1.4", "new", API, 0),
    ("2026-11-06T09:00:00", "ghcr.io/acme/web:1", "new", WEB, 0),
    ("2026-11-07T09:00:00", "ghcr.io/acme/web:1-rebuilt", "new", WEB_AGAIN, 0),
    ("2026-11-08T09:00:00", EXPORTER_NAME, "new", EXPORTER, 0),
    ("2026-11-09T09:00:00", "ghcr.io/acme/tools:3", "new", TOOLS, 0),
    ("2026-11-12T22:15:00", "docker.io/library/old:1", "vanished", None, 0),
    ("2026-11-21T04:30:00", "docker.io/library/app:v2", "new", APP_2, 0),
    ("2026-11-21T04:30:00", "docker.io/library/app:latest", "moved", APP_2, 0),
)

CONTAINERS = (
    ("0a1b2c3d", "docker.io/library/app:latest", APP_1, "2026-11-04T11:00:00", 1),
    ("4e5f6a7b", "docker.io/library/app:latest", APP_2, "2026-11-21T05:00:00", 1),
    ("8c9d0e1f", "registry.k8s.io/pause:3.10", PAUSE, "2026-11-01T06:01:00", 1),
)

USED = {WEB.id: "2026-11-18T20:00:00", APP_1.id: "2026-11-22T08:00:00", APP_2.id: "2026-11-22T08:00:00"}

LOOKED = moment("2026-11-22T08:00:00")


class DemoStore:
    """Writes the rows, through one connection."""

    def __init__(self, connection: sqlite.Connection) -> None:
        self._connection = connection

    def write(self) -> None:
        """Write everything."""
        self._execute("UPDATE platforms SET platform = 'linux/amd64'")
        looks = "blobs_at = :at, snapshots_at = :at, containers_at = :at, snapshotter = 'overlayfs'"
        self._execute(f"UPDATE content_look SET {looks}", at=LOOKED)
        self._execute(
            "UPDATE identity SET store_id = :id, source = 'containerd:/run/containerd/containerd.sock', "
            "namespace = 'k8s.io'",
            id="5" * 32,
        )
        for key, (names, builds, came) in enumerate(IMAGES, 1):
            self._write_image(key, names, builds, moment(came))
        self._write_changes()

    def _write_image(self, key: int, names: Sequence[str], builds: Sequence[Build], came: int) -> None:
        own = builds[0]
        for build in builds:
            self._write_build(build)
        target = index_of(builds) if len(builds) > 1 else own.manifest
        if len(builds) > 1:
            self._blob(target, INDEX)
        for position, build in enumerate(builds):
            self._insert(
                "target_manifests",
                target_key=self._key(digest(target)),
                position=position,
                manifest_key=self._key(digest(build.manifest)),
                platform=f"linux/{build.architecture}",
                is_attestation=0,
            )
        size = own.size + (len(target) if len(builds) > 1 else 0)
        chain = chain_id(own.diff_ids)
        self._insert(
            "images", image_key=key, id=own.id, chain_id=chain, size=size, config_key=self._key(own.id)
        )
        for name in names:
            self._write_reference(key, name, digest(target), self._key(digest(own.manifest)))
        used = USED.get(own.id)
        last_used = moment(used) if used else None
        self._insert(
            "image_usage", image_id=own.id, first_seen=came, last_used=last_used, uses=int(used is not None)
        )

    def _write_build(self, build: Build) -> None:
        config, manifest = self._blob(build.document, CONFIG), self._blob(build.manifest, MANIFEST)
        self._insert("manifests", manifest_key=manifest, config_key=config, compressed_size=build.size)
        for position, layer in enumerate(build.layers):
            facts = {"media_type": LAYER, "size": layer.size, "present": int(layer.present)}
            self._insert_once("blobs", digest=layer.digest, **facts)
            chain = chain_id(build.diff_ids[: position + 1])
            unpacked = {
                "unpacked": int(layer.present),
                "unpacked_bytes": layer.size * 3 if layer.present else None,
            }
            self._insert_once("chains", chain_id=chain, diff_id=layer.diff_id, **unpacked)
            (chain_key,) = self._execute("SELECT chain_key FROM chains WHERE chain_id = :chain", chain=chain)
            self._insert(
                "manifest_layers",
                manifest_key=manifest,
                position=position,
                layer_key=self._key(layer.digest),
                chain_key=chain_key,
            )

    def _write_reference(self, key: int, name: str, target: str, manifest: int) -> None:
        rank, spelling = sort_key(name)
        spelt = None if spelling == name else spelling
        self._insert("references", name=name, image_key=key, sort_rank=rank, sort_name=spelt)
        self._insert(
            "ref_cache",
            reference=name,
            image_key=key,
            target_digest=target,
            manifest_key=manifest,
            verified_at=LOOKED,
        )
        if name.startswith("registry.k8s.io/"):
            self._insert("pinned_refs", reference=name, image_key=key)

    def _write_changes(self) -> None:
        for at, reference, event, build, pinned in HISTORY:
            known = (
                {"image_id": build.id, "target_digest": digest(build.manifest), "size": build.size}
                if build
                else {}
            )
            facts = {"image_id": OLD, "size": 5_000_000 if event == "new" else None, **known}
            facts |= {"pinned": pinned, "event": event, "at": moment(at), "platform": "linux/amd64"}
            self._insert("reference_history", reference=reference, **facts)
        for container, reference, used, at, running in CONTAINERS:
            self._insert(
                "containers",
                container_id=container,
                reference=reference,
                image_id=used.id,
                created_at=moment(at),
                running=running,
            )
        self._insert(
            "incomplete_refs",
            reference="ghcr.io/acme/broken:2",
            error="manifest is not JSON",
            since=LOOKED,
            tried_at=LOOKED,
            tries=3,
        )

    def _blob(self, content: str, media_type: str) -> int:
        self._insert("blobs", digest=digest(content), media_type=media_type, size=len(content), present=1)
        key = self._key(digest(content))
        self._insert("documents", blob_key=key, document=content.encode())
        return key

    def _key(self, of: str) -> int:
        (key,) = self._execute("SELECT blob_key FROM blobs WHERE digest = :digest", digest=of)
        return int(key)

    def _insert_once(self, table: str, **row: object) -> None:
        self._execute(f"{_insertion(table, row)} ON CONFLICT DO NOTHING", **row)

    def _insert(self, table: str, **row: object) -> None:
        self._execute(_insertion(table, row), **row)

    def _execute(self, statement: str, **values: object) -> tuple[Any, ...]:
        found: tuple[Any, ...] | None = self._connection.execute(statement, values).fetchone()
        return found or ()


def _insertion(table: str, row: Mapping[str, object]) -> str:
    return f'INSERT INTO "{table}" ({", ".join(row)}) VALUES ({", ".join(f":{name}" for name in row)})'


def make_demo_store(path: Path) -> None:
    """Make the example store in a new file."""
    open_or_create(path)
    with contextlib.closing(connect(path)) as connection:
        connection.execute("BEGIN")
        DemoStore(connection).write()
        connection.commit()
