"""`imagekeep image explain`."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import click

from imagekeep.cli.command import command, output_format
from imagekeep.cli.documents import write_document
from imagekeep.cli.formats import format_time, human_size
from imagekeep.cli.image_rows import created_of, since
from imagekeep.cli.near_names import suggesting
from imagekeep.cli.output import write_line
from imagekeep.cli.stored_names import complete_images
from imagekeep.database.explain import explain
from imagekeep.reader import ask, asked_platform

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from imagekeep.cli.settings import Settings
    from imagekeep.database.explain import Explanation, NamedSince

UNKNOWN = "unknown"


@command("imagekeep image explain busybox:1.36", "imagekeep image explain -o json busybox:1.36")
@click.argument("image", shell_complete=complete_images)
@output_format("table", "json", "yaml")
@click.pass_obj
def explain_image(settings: Settings, image: str, output: str) -> None:
    """Show why an image is here, and whether it would be collected.

    Shows every name, since when and from where; what pins it; which containers use it; when it was last used;
    whether the source has all of its content; and whether a kubelet would collect it. What is not known yet is
    unknown, or null.
    """
    now = time.time_ns()
    with settings.open_reader() as reader, suggesting(image, reader.references):
        found = ask(reader, explain, image, now, asked_platform(reader))
    if output != "table":
        write_document(_document(found), output)
        return
    for line in _lines(found, now):
        write_line(line)


def _lines(found: Explanation, now: int) -> Iterator[str]:
    image = found.image
    yield f"ID: {image.id}"
    yield f"Platform: {image.platform or UNKNOWN}"
    yield f"Source: {found.source or UNKNOWN}"
    for named in found.names:
        yield f"Name: {named.reference} (since {_when(named.since, now)})"
    for named in found.names:
        if named.pinned:
            yield f"Pinned by: {named.reference} (since {_when(named.pinned_since, now)})"
    for used in found.containers:
        state = "running" if used.running else "not running"
        yield f"Used by: container {used.container_id} ({state}, created {_when(used.created, now)})"
    yield f"First seen: {_when(image.first_seen, now)}"
    last_used = "never seen in use" if image.last_used is None else _when(image.last_used, now)
    yield f"Last used: {'now' if found.containers else last_used}"
    yield f"Content: {image.state or UNKNOWN}"
    yield f"Size: {UNKNOWN if image.size is None else human_size(image.size)}"
    content, unpacked = (_size(each.total) for each in found.freed)
    yield f"Removal frees: {content} of content, {unpacked} unpacked"
    yield f"Kubelet: {_verdict(found)}"


def _verdict(found: Explanation) -> str:
    if found.position is not None:
        return f"would collect it, {found.position} of {found.candidates}"
    return f"would keep it ({'; '.join(found.kept_by)})"


def _when(moment: datetime | None, now: int) -> str:
    return UNKNOWN if moment is None else f"{format_time(moment)}, {since(moment.isoformat(), now)}"


def _size(size: int | None) -> str:
    return UNKNOWN if size is None else human_size(size)


def _document(found: Explanation) -> dict[str, Any]:
    image = found.image
    return {
        "id": image.id,
        "platform": image.platform,
        "created": created_of(image),
        "size": image.size,
        "state": image.state,
        "source": found.source,
        "references": list(map(_name_document, found.names)),
        "pinned_by": [named.reference for named in found.names if named.pinned],
        "containers": [
            {
                "id": used.container_id,
                "reference": used.reference,
                "running": used.running,
                "created": _text(used.created),
            }
            for used in found.containers
        ],
        "first_seen": _text(image.first_seen),
        "last_used": _text(image.last_used),
        "uses": found.uses,
        "freed_content_bytes": found.freed.content.total,
        "kept_content_bytes": found.freed.content.kept,
        "freed_unpacked_bytes": found.freed.unpacked.total,
        "kubelet": {
            "collects": found.position is not None,
            "kept_by": list(found.kept_by),
            "position": found.position,
            "candidates": found.candidates,
        },
    }


def _name_document(named: NamedSince) -> dict[str, Any]:
    return {
        "reference": named.reference,
        "since": _text(named.since),
        "target_digest": named.target_digest,
        "verified": _text(named.verified),
        "pinned": named.pinned,
        "pinned_since": _text(named.pinned_since),
    }


def _text(moment: datetime | None) -> str | None:
    return None if moment is None else format_time(moment)
