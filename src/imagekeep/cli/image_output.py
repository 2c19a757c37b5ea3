"""What lists of images write: docker's templates, and crictl's documents."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from imagekeep.cli.formats import format_time, table
from imagekeep.cli.image_rows import (
    DOCKERS_PLACEHOLDERS,
    PLACEHOLDERS,
    created_of,
    size_of,
    template_values,
)
from imagekeep.escaping import escape
from imagekeep.oci.user import split_user
from imagekeep.questions.templates import Template, parse_template

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from datetime import datetime

    from imagekeep.image import Image, ImageSummary
    from imagekeep.questions.globs import ReferenceGlob
    from imagekeep.questions.listed import ListedImage

    Shown = ImageSummary | ListedImage

_DEFAULT_FORMAT = "table {{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}"
"""What docker shows for `--format table`."""

_JSON_FORMAT = " ".join(f"{{{{.{name}}}}}" for name in DOCKERS_PLACEHOLDERS)
"""The placeholders that docker's `--format json` shows."""

_FORMAT_WIDTH = 10
"""Minimum width of a column in a table of docker's."""


class Form(NamedTuple):
    """A template of docker's --format, or its word `json`."""

    template: Template
    is_json: bool

    @property
    def placeholders(self) -> tuple[str, ...]:
        """Return the placeholders that it shows."""
        return self.template.placeholders


def parse_form(text: str) -> Form:
    """Parse the value of --format; raises InvalidArgumentError."""
    given = {"table": _DEFAULT_FORMAT, "json": _JSON_FORMAT}.get(text, text)
    return Form(parse_template(given, list(PLACEHOLDERS)), text == "json")


def filled(
    form: Form,
    images: Iterable[ListedImage],
    now: int,
    patterns: Sequence[ReferenceGlob],
    *,
    truncated: bool,
    heading: bool,
) -> Iterator[str]:
    """Return the lines of a template, or the table that it describes, in pieces."""
    rows = (row for image in images for row in template_values(image, now, patterns, truncated=truncated))
    if form.is_json:
        return _json_lines(rows)
    if form.template.is_table:
        headings = [form.template.cells(PLACEHOLDERS)] if heading else []
        return table([*headings, *map(form.template.cells, rows)], minimum=_FORMAT_WIDTH)
    return (f"{escape(line)}\n" for row in rows for line in form.template.render(row).split("\n"))


def _json_lines(rows: Iterable[Mapping[str, str]]) -> Iterator[str]:
    """Yield what docker prints for `--format json`: an object of strings for each row."""
    # Imported here because most lists are no JSON.
    from imagekeep.cli.documents import line_pieces

    for values in rows:
        yield from line_pieces({name: values[name] for name in DOCKERS_PLACEHOLDERS})


def document_of(image: Shown, config: Image | None, *, wide: bool) -> dict[str, Any]:
    """Return runtime.v1.Image as protobuf's JSON with every field; 64-bit numbers are strings.

    What the history does not know of a past image is null.
    """
    uid, username = split_user(config.config["config"].get("User", "") if config else "")
    size = size_of(image)
    return {
        "id": image.id,
        "repoTags": image.repo_tags,
        "repoDigests": image.repo_digests,
        "size": None if size is None else str(size),
        "uid": None if uid is None else {"value": str(uid)},
        "username": username,
        "spec": None,
        "pinned": image.pinned,
        **(_facts(image) if wide else {}),  # type: ignore[arg-type]
    }


def _facts(image: ListedImage) -> dict[str, Any]:
    """Return the fields that --wide adds; null means unknown."""
    return {
        "created": created_of(image),
        "platform": image.platform,
        "state": image.state,
        "firstSeen": _text(image.first_seen),
        "lastUsed": _text(image.last_used),
        "containers": image.containers,
        "uniqueSize": image.unique_size,
        "sharedSize": image.shared_size,
    }


def _text(moment: datetime | None) -> str | None:
    return None if moment is None else format_time(moment)
