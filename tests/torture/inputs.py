"""Hostile inputs: each returns a value or raises an ImagekeepError, soon and in little memory.

An error's text is printable and contains nothing of a config. The kernel limits the memory of each process that
reads inputs.
"""

from __future__ import annotations

import gzip
import io
import json
import random
import resource
import time
import traceback
from typing import TYPE_CHECKING, Any

from imagekeep import Store
from imagekeep.digest import is_digest, parse_query, validate
from imagekeep.errors import ImagekeepError
from imagekeep.escaping import escape
from imagekeep.image import PINNED_LABEL
from imagekeep.oci.config import parse_config
from imagekeep.oci.descriptor import Descriptor
from imagekeep.oci.documents import parse_config_platform, parse_index, parse_manifest
from imagekeep.oci.timestamp import reformat
from imagekeep.oci.user import split_user
from imagekeep.platform import Platform, only
from imagekeep.reference import check_name, parse_any, parse_docker_ref, parse_normalized, repo_tags, sort_key
from imagekeep.sources.archive import Archive
from imagekeep.sources.listing import parse_entries
from imagekeep.sources.naming import parse_base_name
from imagekeep.sources.oci_layout import OCILayout
from imagekeep.sources.specifier import open_source
from imagekeep.sync import sync
from tests.images import OCI_CONFIG, OCI_INDEX, OCI_LAYER, OCI_MANIFEST, REF_NAME, LayoutWriter, tar_of
from tests.torture.bombs import BOMB_SECONDS_MAX, BOMBS, MEMORY
from tests.torture.children import ChildError, ask, run
from tests.torture.fuzz import SECRET, damaged, encoded, mutated, word
from tests.torture.orders import PLATFORM
from tests.torture.query_fuzz import feed_queries
from tests.torture.report import Harm, Report
from tests.torture.survey import broken_invariants

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.torture.report import Seen

CHUNK = 200
SLOWEST = 10.0
"""Seconds of processor time that an ordinary input may take."""


SLOW = {"daemons": 10}
"""Slow kinds, which get only one in this many inputs."""


def feed(directory: Path, seed: int, count: int, kinds: tuple[str, ...]) -> Report:
    """Feed `count` inputs of each kind; fewer of slow ones, and each bomb once."""
    report = Report("inputs", "inputs")
    draw = random.Random(seed)
    for kind in kinds or KINDS:
        chunks = [(bomb,) for bomb in BOMBS if kind in ("bombs", bomb)] or _chunks(count, SLOW.get(kind, 1))
        for number, chunk in enumerate(chunks):
            place = directory / f"{kind}-{number}"
            place.mkdir()
            try:
                rounds, seen = ask(_feed_chunk, kind, place, draw.getrandbits(30), chunk)
            except ChildError as error:
                rounds, seen = 1, [(Harm.HUNG if error.hung else Harm.CRASHED, f"{kind} {chunk}: {error}")]
            report.rounds += rounds
            report.facts[kind] += rounds
            for harm, what in seen:
                report.add(harm, f"{kind}: {what}")
    return report


def _chunks(count: int, slowness: int) -> list[Any]:
    """Split a count into the inputs of each process; fewer of slow ones."""
    count, chunk = -(-count // slowness), CHUNK // slowness
    return [min(chunk, count - fed) for fed in range(0, count, chunk)]


def _feed_chunk(kind: str, place: Path, seed: int, chunk: Any) -> tuple[int, list[Seen]]:
    """Feed inputs of one kind; return how many, and the harms."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seen = KINDS["bombs" if kind in BOMBS else kind](place, random.Random(seed), chunk)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    if grown > MEMORY:
        seen.append((Harm.BROKEN, f"{chunk} took {grown >> 20} MiB"))
    return (1 if isinstance(chunk, tuple) else chunk), seen


def harms_of(what: object, call: Callable[[], object], slowest: float = SLOWEST) -> list[Seen]:
    """Make a call that may return or raise a printable ImagekeepError; return the harms."""
    began = time.process_time()
    seen: list[Seen] = []
    try:
        call()
    except ImagekeepError as error:
        if not str(error).isprintable() or SECRET in str(error) or len(str(error)) > 20_000:
            seen.append((Harm.BROKEN, f"an unprintable error: {str(error)!r:.2000}"))
    except Exception:
        seen.append((Harm.CRASHED, f"{what!r:.300}\n{traceback.format_exc()[-900:]}"))
    if (took := time.process_time() - began) > slowest:
        seen.append((Harm.HUNG, f"{took:.0f} s for {what!r:.300}"))
    return seen


def feed_words(place: Path, draw: random.Random, count: int) -> list[Seen]:
    """Pass words to every function that takes a name, digest, platform or id."""
    seen: list[Seen] = []
    with Store.open(place / "images.db", platform=PLATFORM) as store:
        asked: dict[str, Callable[[str], object]] = {
            **{f.__name__: f for f in (check_name, parse_any, parse_docker_ref, parse_normalized, sort_key)},
            **{f.__name__: f for f in (validate, is_digest, split_user, parse_base_name, escape)},
            **{f.__name__: f for f in (store.get, store.resolve, store.find, store.history)},
            "query": lambda text: parse_query(text).ranges(),
            "platform": lambda text: only(Platform.parse(text)).matches(Platform("linux", "amd64")),
            "tags": lambda text: repo_tags([text]),
            "source": lambda text: open_source(f"oci:{text}").records(),
            "scheme": lambda text: open_source(text) if not text.startswith("archive:-") else None,
            "delete": lambda text: store.delete(text, text),
            "pin": lambda text: store.pin(text, text),
            "pinned": lambda text: store.is_pinned(text, text),
            "apply": lambda text: store.apply(text, None),
        }
        for _ in range(count):
            text = word(draw)
            for name, function in asked.items():
                seen += harms_of((name, text), lambda f=function, t=text: f(t))  # type: ignore[misc]
            try:
                reformat(text)
            except ValueError:
                continue
    return seen


CONFIG: dict[str, Any] = {
    "created": "2024-05-01T10:00:00.5+02:00",
    "architecture": "amd64",
    "os": "linux",
    "config": {
        "User": "1000:1000",
        "Env": ["PATH=/bin", f"TOKEN={SECRET}"],
        "Entrypoint": ["/bin/sh"],
        "Labels": {"key": SECRET, "\x1b[31mred": "value"},
        "ExposedPorts": {"80/tcp": {}},
    },
    "rootfs": {"type": "layers", "diff_ids": ["sha256:" + "1" * 64]},
    "history": [{"created": "2024-05-01T10:00:00Z", "created_by": "RUN \x1b[2J"}],
}


def feed_documents(place: Path, draw: random.Random, count: int) -> list[Seen]:
    """Pass mutated documents to their parsers."""
    blob = {
        "mediaType": OCI_LAYER,
        "digest": "sha256:" + "2" * 64,
        "size": 7,
        "annotations": {REF_NAME: "v1"},
    }
    manifest = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": {**blob, "mediaType": OCI_CONFIG}}
    index = {"schemaVersion": 2, "manifests": [{**blob, "platform": {"os": "linux", "architecture": "arm"}}]}
    readers: list[tuple[Any, Callable[[bytes, str], object]]] = [
        (CONFIG, parse_config),
        (CONFIG, parse_config_platform),
        ({**manifest, "layers": [blob, {**blob, "data": "AAAA"}]}, parse_manifest),
        (index, parse_index),
        (index, parse_entries),
    ]
    seen: list[Seen] = []
    for _ in range(count):
        document, reader = draw.choice(readers)
        content = encoded(draw, mutated(draw, document))
        seen += harms_of(content, lambda r=reader, c=content: r(c, "document"))  # type: ignore[misc]
    return seen


def write_layout(directory: Path, draw: random.Random) -> None:
    """Write a layout of mutated documents, each under its correct digest."""
    layout = LayoutWriter(directory)

    def document(content: Any, media_type: str, **more: Any) -> dict[str, Any]:
        written = encoded(draw, mutated(draw, content))
        described = {"mediaType": media_type, "digest": layout.blob(written), "size": len(written), **more}
        return (
            described
            if draw.random() < 0.8
            else {**described, "size": draw.choice((0, -1, 1 << 31, 2**63 - 1))}
        )

    entries = []
    for number in range(draw.randrange(1, 5)):
        layers = [{"mediaType": OCI_LAYER, "digest": layout.blob(b"layer"), "size": 5}] * draw.choice(
            (0, 1, 3)
        )
        config = document(CONFIG, OCI_CONFIG)
        manifest = document(
            {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": config, "layers": layers}, OCI_MANIFEST
        )
        if draw.random() < 0.4:
            manifest["platform"] = mutated(draw, {"os": "linux", "architecture": "amd64"})
            manifest = document(
                {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [manifest] * 2}, OCI_INDEX
            )
        annotations = {
            REF_NAME: draw.choice((f"v{number}", word(draw))),
            PINNED_LABEL: draw.choice(("pinned", "")),
        }
        entries.append({**manifest, "annotations": annotations})
    whole = {"schemaVersion": 2, "manifests": mutated(draw, entries)}
    (directory / "index.json").write_bytes(
        encoded(draw, whole) if draw.random() < 0.3 else json.dumps(whole).encode()
    )


def feed_layouts(place: Path, draw: random.Random, count: int) -> list[Seen]:
    """Sync layouts to a store, and sometimes run every command on it."""
    seen: list[Seen] = []
    path = place / "images.db"
    for number in range(count):
        directory = place / f"layout-{number}"
        write_layout(directory, draw)
        source = OCILayout(directory, base_name="docker.io/library/hostile")
        with Store.open(path, source=source, platform=PLATFORM) as store:
            seen += harms_of(directory, lambda s=store: sync(s))  # type: ignore[misc]
            if number % 20 == 0:
                seen += broken_invariants(path)
                seen += shown(path, source=f"oci:{directory}")
    return seen


SHOWING = (
    *(("images",), ("images", "--digests", "--no-trunc"), ("images", "-o", "json"), ("images", "-o", "yaml")),
    *(
        ("db", "info"),
        ("db", "info", "-o", "json"),
        ("db", "check"),
        ("diff",),
        ("diff", "-o", "json"),
        ("sync",),
    ),
)


def shown(path: Path, source: str) -> list[Seen]:
    """Return the harms in what the commands show: what a terminal would take for a command, or a secret."""
    seen: list[Seen] = []
    for command in SHOWING:
        result = run(path, "--source", source, "--base-name", "docker.io/library/hostile", *command)
        if result.crashed:
            seen.append((Harm.CRASHED, str(result)))
        for line in (result.output + "\n" + result.stderr).split("\n"):
            if not line.isprintable() or SECRET in line:
                seen.append((Harm.BROKEN, f"{result.command} printed {line!r:.500}"))
    return seen


def feed_archives(place: Path, draw: random.Random, count: int) -> list[Seen]:
    """Feed archives of both kinds, damaged as bytes before or after compression, or in their documents."""
    seen: list[Seen] = []
    for number in range(count):
        directory = place / f"layout-{number}"
        write_layout(directory, draw)
        files = {
            str(p.relative_to(directory)): p.read_bytes() for p in sorted(directory.rglob("*")) if p.is_file()
        }
        if draw.random() < 0.5:
            saved = [
                {"Config": "config.json", "RepoTags": ["busybox:1", word(draw)], "Layers": ["layer.tar"]}
            ]
            files = {
                "config.json": encoded(draw, mutated(draw, CONFIG)),
                "layer.tar": b"layer",
                "manifest.json": encoded(draw, mutated(draw, saved)),
            }
        content = tar_of(files)
        if draw.random() < 0.6:
            content = damaged(draw, content)
        if draw.random() < 0.5:
            content = gzip.compress(content, 1)
            content = damaged(draw, content) if draw.random() < 0.5 else content
        seen += harms_of(directory, lambda c=content, p=place: _read_archive(c, p))  # type: ignore[misc]
    return seen


def _read_archive(content: bytes, place: Path) -> None:
    """Read every image of an archive, as a stream and as a file."""
    (place / "archive").write_bytes(content)
    for file in (io.BytesIO(content), place / "archive"):
        try:
            source = Archive(file)
            for record in source.records():
                source.info(record.target.digest)
                source.read(Descriptor(OCI_MANIFEST, record.target.digest, record.target.size))
        except ImagekeepError:
            continue


def feed_bombs(place: Path, draw: random.Random, chunk: tuple[str]) -> list[Seen]:
    """Feed one bomb."""
    used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()  # noqa: PTH123, SIM115
    resource.setrlimit(resource.RLIMIT_AS, (used + 2 * MEMORY, used + 2 * MEMORY))
    bomb = BOMBS[chunk[0]](place)
    return harms_of(chunk[0], bomb, slowest=BOMB_SECONDS_MAX)


def feed_calls(place: Path, draw: random.Random, count: int) -> list[Seen]:
    """Send requests to the CRI server."""
    from tests.torture import (
        grpc_fuzz,  # here, because gRPC starts threads, and others fork from this process
    )

    return grpc_fuzz.feed_calls(place, draw, count, CONFIG)


def feed_daemons(place: Path, draw: random.Random, count: int) -> list[Seen]:
    """Read from a hostile containerd."""
    from tests.torture import grpc_fuzz

    return grpc_fuzz.feed_daemons(place, draw, count, write_layout, harms_of)


KINDS: dict[str, Callable[[Path, random.Random, Any], list[Seen]]] = {
    "words": feed_words,
    "documents": feed_documents,
    "layouts": feed_layouts,
    "archives": feed_archives,
    "queries": lambda place, draw, count: feed_queries(place, draw, count, harms_of),
    "calls": feed_calls,
    "daemons": feed_daemons,
    "bombs": feed_bombs,
}
