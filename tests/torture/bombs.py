"""Small inputs that would become large: each function makes its files, and returns the call that reads them."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

from imagekeep import Store
from imagekeep.digest import digest_of
from imagekeep.errors import ImagekeepError
from imagekeep.oci.config import parse_config
from imagekeep.oci.descriptor import Descriptor
from imagekeep.oci.documents import parse_index, parse_manifest
from imagekeep.platform import Platform, only
from imagekeep.reference import check_name, parse_any, parse_docker_ref, sort_key
from imagekeep.sources.oci_layout import OCILayout
from imagekeep.sync import sync
from tests.images import OCI_CONFIG, OCI_INDEX, OCI_MANIFEST, REF_NAME, LayoutWriter, named
from tests.torture.orders import PLATFORM
from tests.torture.tar_bombs import (
    docker_archive_of_one_layer,
    gzip_of_documents,
    gzip_of_zeros,
    tar_of_huge_headers,
    tar_of_links_in_a_ring,
    tar_of_long_names,
    tar_of_many_members,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from imagekeep.sources.protocol import Source

MEMORY = 512 << 20
"""Bytes that an input may take: a sync decodes documents of 8 MiB each, eight at once."""

BOMB_SECONDS_MAX = 30.0
"""Seconds of processor time that an input may take."""


def _syncing(directory: Path, source: Source) -> Callable[[], object]:
    def synced() -> None:
        with Store.open(directory / "images.db", source=source, platform=PLATFORM) as store:
            sync(store)
            for _ in store.iter():
                continue

    return synced


def _layout(directory: Path, *entries: Any) -> Callable[[], object]:
    """Return a call that syncs a layout with these entries."""
    layout = _writer(directory)
    layout.write_index(named(entry, f"v{number}") for number, entry in enumerate(entries))
    return _syncing(directory, OCILayout(layout.directory))


def _writer(directory: Path) -> LayoutWriter:
    if (directory / "layout").exists():
        layout = LayoutWriter.__new__(LayoutWriter)
        layout.directory = directory / "layout"
        return layout
    return LayoutWriter(directory / "layout")


def sparse_document(directory: Path) -> Callable[[], object]:
    """A sparse manifest of 2 GiB."""
    layout = _writer(directory)
    entry = layout.image()
    os.truncate(layout.path(entry["digest"]), 2 << 30)
    return _layout(directory, {**entry, "size": 2 << 30})


def sparse_index(directory: Path) -> Callable[[], object]:
    layout = _writer(directory)
    os.truncate(layout.directory / "index.json", 2 << 30)
    return _syncing(directory, OCILayout(layout.directory))


def size_of_2_gib(directory: Path) -> Callable[[], object]:
    layout = _writer(directory)
    return _layout(directory, *({**layout.image(), "size": size} for size in (2 << 30, 2**63 - 1, -(2**63))))


def nested_indexes(directory: Path) -> Callable[[], object]:
    """Indexes nested 10,000 deep."""
    layout = _writer(directory)
    entry = layout.image()
    for _ in range(10_000):
        entry = layout.index([entry])
    return _layout(directory, entry)


def index_of_itself(directory: Path) -> Callable[[], object]:
    """Two indexes that contain each other, under wrong digests, since right ones cannot exist."""
    layout = _writer(directory)
    one, other = (f"sha256:{digit * 64}" for digit in "ab")
    for here, there in ((one, other), (other, one)):
        entry = {"mediaType": OCI_INDEX, "digest": there, "size": 100}
        layout.path(here).write_text(
            json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [entry]})
        )
    return _layout(directory, {"mediaType": OCI_INDEX, "digest": one, "size": 100})


def fan_of_indexes(directory: Path) -> Callable[[], object]:
    """Twenty indexes, each listing the next a thousand times."""
    layout = _writer(directory)
    entry = layout.image(platform=True)
    for _ in range(20):
        entry = {
            **layout.index([{k: v for k, v in entry.items() if k != "platform"}] * 1000),
            "platform": None,
        }
    return _layout(directory, entry)


def many_entries(directory: Path) -> Callable[[], object]:
    """An index.json of thousands of entries without their documents."""
    layout = _writer(directory)
    entries = [
        {
            "mediaType": OCI_MANIFEST,
            "digest": f"sha256:{number:064x}",
            "size": 1,
            "annotations": {REF_NAME: f"v{number}"},
        }
        for number in range(8_000)
    ]
    layout.write_index(entries)
    return _syncing(directory, OCILayout(layout.directory))


def many_names_of_one_image(directory: Path) -> Callable[[], object]:
    return _layout(directory, *[_writer(directory).image()] * 5_000)


def deep_json(directory: Path) -> Callable[[], object]:
    return _each(
        b"[" * 4_000_000 + b"]" * 4_000_000, b'{"a":' * 1_000_000, b'{"config":' * 700_000 + b"}" * 700_000
    )


def doubled_keys(directory: Path) -> Callable[[], object]:
    keys = b",".join(b'"config":{"Env":["A=%d"],"Labels":{"%d":"x"}}' % (n, n) for n in range(40_000))
    lists = b",".join([b'"layers":[{},{},{},{}],"manifests":[{}]'] * 50_000)
    many, few = b",".join([b'""'] * 200_000), b",".join([b'"Env":[""]'] * 200_000)
    long = b'{"config":{"Env":[' + many + b"]," + few + b"}}"
    return _each(b"{" + keys + b"}", b"{" + lists + b"}", long)


def many_empty_items(directory: Path) -> Callable[[], object]:
    """Millions of the smallest items, each an object once decoded."""
    items = b",".join([b"{}"] * 600_000)
    return _each(
        *(b'{"schemaVersion":2,"%s":[%s]}' % (name, items) for name in (b"layers", b"manifests", b"history"))
    )


def huge_numbers(directory: Path) -> Callable[[], object]:
    return _each(b'{"size":' + b"9" * 8_000_000 + b"}", b'{"schemaVersion":1e' + b"9" * 8_000_000 + b"}")


def huge_text(directory: Path) -> Callable[[], object]:
    return _each(
        b'{"created":"' + b"0" * 8_000_000 + b'"}',
        b'{"os":"' + b"\\ud800" * 1_300_000 + b'"}',
        b"\xff" * 8_000_000,
    )


def _each(*documents: bytes) -> Callable[[], object]:
    """Return a call that parses each document as each kind, whatever errors the others raise."""

    def read() -> None:
        for document in documents:
            for reader in (parse_config, parse_index, parse_manifest):
                _ignore_errors(lambda r=reader, d=document: r(d, "bomb"))  # type: ignore[misc]

    return read


def _ignore_errors(call: Callable[[], object]) -> None:
    try:
        call()
    except ImagekeepError:
        return


def config_of_8_mib(directory: Path) -> Callable[[], object]:
    """Seventy configs of the largest size, read eight at a time."""
    layout = _writer(directory)
    entries = []
    for number in range(70):
        config = {
            "architecture": "amd64",
            "os": "linux",
            "config": {"Env": [f"{number}=" + "x" * ((8 << 20) - 200)]},
        }
        manifest = {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": layout.document(config, OCI_CONFIG),
        }
        entries.append(layout.document({**manifest, "layers": []}, OCI_MANIFEST))
    return _layout(directory, *entries)


def _dense_manifest(number: int) -> bytes:
    """Return a manifest of 8 MiB with the most layers allowed, and many empty objects."""
    layers = b",".join([b'{"annotations":{"a":""}}'] * 99_000)
    start = b'{"schemaVersion":2,"annotations":{"n":"%d"},"layers":[%s],"x":[' % (number, layers)
    return start + b",".join([b"{}"] * ((7_900_000 - len(start)) // 3)) + b"]}"


def one_document_of_many_sizes(directory: Path) -> Callable[[], object]:
    """One dense manifest in thousands of entries, each with another size."""
    layout = _writer(directory)
    digest = layout.blob(_dense_manifest(0))
    return _layout(
        directory, *({"mediaType": OCI_MANIFEST, "digest": digest, "size": size} for size in range(20_000))
    )


def dense_documents(directory: Path) -> Callable[[], object]:
    """Dense manifests that are read concurrently."""
    layout = _writer(directory)
    documents = [_dense_manifest(number) for number in range(24)]
    return _layout(
        directory,
        *(
            {"mediaType": OCI_MANIFEST, "digest": layout.blob(document), "size": len(document)}
            for document in documents
        ),
    )


def references_of_10_mb(directory: Path) -> Callable[[], object]:
    names = (
        "a" * 10_000_000,
        "a/" * 5_000_000,
        "a:" * 5_000_000,
        "a." * 5_000_000,
        "A" * 10_000_000,
        "_" * 10_000_000,
    )

    def read() -> None:
        with Store.open(directory / "images.db", platform=PLATFORM) as store:
            for name in (
                *names,
                f"{names[0]}@{digest_of(b'')}",
                f"a:{names[0]}",
                f"sha256:{names[0]}",
                "0" * 10_000_000,
            ):
                for ask in (check_name, parse_any, parse_docker_ref, sort_key, store.find, store.get):
                    _ignore_errors(lambda a=ask, n=name: a(n))  # type: ignore[misc]
                _ignore_errors(lambda n=name: store.apply(n, None))  # type: ignore[misc]

    return read


def platforms_of_10_mb(directory: Path) -> Callable[[], object]:
    def read() -> None:
        for text in (
            "a" * 10_000_000,
            "/" * 10_000_000,
            "linux/" * 1_000_000,
            "windows(" + "1." * 5_000_000 + ")",
        ):
            _ignore_errors(lambda t=text: only(Platform.parse(t)).matches(Platform("linux", "arm64")))  # type: ignore[misc]

    return read


def annotation_of_8_mb(directory: Path) -> Callable[[], object]:
    layout = _writer(directory)
    layout.write_index([{**layout.image(), "annotations": {REF_NAME: "v" * 8_000_000}}])
    return _syncing(directory, OCILayout(layout.directory))


def inline_content(directory: Path) -> Callable[[], object]:
    """A descriptor with megabytes of inline data."""
    return _layout(directory, {**_writer(directory).image(), "data": "A" * 6_000_000})


def descriptor_of_nothing(directory: Path) -> Callable[[], object]:
    source = OCILayout(_writer(directory).directory)
    return lambda: [
        source.read(Descriptor("", digest, 0)) for digest in ("sha256:" + "../" * 21 + "a", digest_of(b""))
    ]


BOMBS: dict[str, Callable[[Path], Callable[[], object]]] = {
    function.__name__.replace("_", "-"): function
    for function in (
        *(gzip_of_zeros, gzip_of_documents, tar_of_huge_headers, tar_of_many_members, tar_of_links_in_a_ring),
        *(sparse_document, sparse_index, size_of_2_gib, nested_indexes, index_of_itself, fan_of_indexes),
        *(
            many_entries,
            many_names_of_one_image,
            deep_json,
            doubled_keys,
            many_empty_items,
            huge_numbers,
            huge_text,
        ),
        *(config_of_8_mib, references_of_10_mb, platforms_of_10_mb, annotation_of_8_mb),
        *(inline_content, descriptor_of_nothing, one_document_of_many_sizes, dense_documents),
        *(tar_of_long_names, docker_archive_of_one_layer),
    )
}
