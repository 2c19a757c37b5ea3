"""`imagekeep images`, or `imagekeep image ls`: images as crictl lists them (cri-tools: cmd/crictl/image.go)."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from imagekeep.cli.command import command, no_heading, no_truncation, row_format
from imagekeep.cli.formats import table
from imagekeep.cli.image_rows import (
    PLACEHOLDERS,
    SORTS,
    Columns,
    choose,
    created_of,
    size_of,
    sort_images,
    template_values,
)
from imagekeep.cli.output import write_all
from imagekeep.cli.rows import Listing, write_rows
from imagekeep.cli.stored_names import complete_references
from imagekeep.cli.times import moment_option
from imagekeep.escaping import escape
from imagekeep.oci.user import split_user
from imagekeep.questions.filters import Filter, parse_filters
from imagekeep.questions.globs import ReferenceGlob
from imagekeep.questions.templates import Template, parse_template
from imagekeep.reader import ask, asked_platform
from imagekeep.reference import parse_normalized

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from imagekeep.cli.settings import Settings
    from imagekeep.image import Image, ImageSummary
    from imagekeep.questions.listed import ListedImage
    from imagekeep.reader import Reader
    from imagekeep.reference import Reference

    Shown = ImageSummary | ListedImage

_DOCUMENTS = ("json", "jsonl", "yaml")
"""The formats with crictl's fields, which need the configs."""

_DEFAULT_FORMAT = "table {{.Repository}}\t{{.Tag}}\t{{.ID}}\t{{.CreatedSince}}\t{{.Size}}"
"""What docker shows for `--format table`."""

_FORMAT_WIDTH = 10
"""Minimum width of a column in a table of docker's."""


class Request(NamedTuple):
    """Which images to list, and in which order."""

    wanted: Reference | None
    as_of: int | None
    filters: tuple[Filter, ...]
    sort: str | None
    reverse: bool
    limit: int | None
    wide: bool
    tree: bool
    template: Template | None
    now: int

    @property
    def needs_facts(self) -> bool:
        """Return whether the list needs more than names and sizes in the usual order."""
        shown = self.wide or self.tree or self.template
        return bool(self.filters or self.sort or self.reverse or self.limit is not None or shown)

    @property
    def patterns(self) -> tuple[ReferenceGlob, ...]:
        """Return the patterns of which a name must match one."""
        positive = (each for each in self.filters if each.key == "reference" and not each.negated)
        return tuple(ReferenceGlob(each.value) for each in positive)

    def uses(self, *names: str) -> bool:
        """Return whether the list sorts by one of these keys or shows one of these placeholders."""
        shown = self.template.placeholders if self.template else ()
        return self.wide or self.sort in names or any(name in names for name in shown)


@command(
    "imagekeep images",
    "imagekeep images busybox:1.36",
    "imagekeep images --digests --pinned --no-trunc",
    "imagekeep images -f 'reference=busybox:*' -f 'size>1kB' --sort size",
    "imagekeep images --format '{{.Repository}}:{{.Tag}} {{.Size}}'",
    "imagekeep images --as-of now",
    "imagekeep images -o json",
)
@click.argument("name", metavar="[REPO[:TAG]]", required=False, shell_complete=complete_references)
@click.option(
    "-f",
    "--filter",
    "filters",
    multiple=True,
    metavar="KEY=VALUE",
    help="Keep images that match; KEY!=VALUE leaves them out.",
)
@click.option("--sort", type=click.Choice(list(SORTS)), help="Sort by this, largest and newest first.")
@click.option("--reverse", is_flag=True, help="Reverse the order.")
@click.option("--limit", type=click.IntRange(0), metavar="COUNT", help="Maximum number of images.")
@click.option("--wide", is_flag=True, help="Show age, platform, state, last use, and shared bytes.")
@click.option("--tree", is_flag=True, help="Show targets, platforms and layers as a tree.")
@click.option("--format", "template", metavar="TEMPLATE", help="Fill in a template of docker's placeholders.")
@moment_option("--as-of", "Show the images of a past time, from the history.")
@click.option("--digests", is_flag=True, help="Show digests.")
@click.option("--pinned", is_flag=True, help="Show which images are pinned.")
@click.option("-a", "--all", "_all", is_flag=True, help="Accepted for docker's sake; all images are shown.")
@click.option("-q", "--quiet", is_flag=True, help="Show only full ids.")
@no_truncation
@no_heading
@row_format()
@click.pass_obj
def list_images(
    settings: Settings,
    name: str | None,
    filters: tuple[str, ...],
    sort: str | None,
    reverse: bool,
    limit: int | None,
    wide: bool,
    tree: bool,
    template: str | None,
    as_of: int | None,
    digests: bool,
    pinned: bool,
    quiet: bool,
    no_trunc: bool,
    no_heading: bool,
    output: str,
    _all: bool,
) -> None:
    """List images.

    The table, csv and tsv have one row per tag, like `crictl images`. In json, jsonl and yaml an image has the same
    fields as crictl's, and more with --wide.

    Filters are joined by AND, several `reference=` by OR. Keys: reference (a pattern), id, digest, label, layer,
    platform, registry, repository; dangling, untagged, pinned, in-use (true or false); before, since (an image);
    until, created, first-seen (a time); unused-for, size, state. Sizes and times also take <, <=, > and >=.
    """
    if (template is not None) + tree + (output != "table") > 1:
        raise click.UsageError("--format, --tree and --output are ways to write the list; choose one")
    wanted = None if name is None else parse_normalized(name)
    parsed = None if template is None else _parse_template(template)
    request = Request(
        wanted, as_of, parse_filters(filters), sort, reverse, limit, wide, tree, parsed, time.time_ns()
    )
    with settings.open_reader() as reader:
        images = _read(reader, request, documents=output in _DOCUMENTS and not quiet)
        if tree and not quiet:
            _write_tree(reader, images, truncated=not no_trunc)
            return
    if quiet:
        write_all(f"{escape(image.id)}\n" for image, _ in images)
    elif request.template is not None:
        write_all(_filled(request.template, images, request, truncated=not no_trunc, heading=not no_heading))
    else:
        columns = Columns(
            digests=digests,
            pinned=pinned,
            truncated=not no_trunc,
            wide=wide,
            now=request.now,
            patterns=request.patterns,
        )
        rows = (row for image, _ in images for row in columns.rows(image, wanted))
        documents = (_document(image, config, wide=wide) for image, config in images)
        listing = Listing(columns.columns(), rows, "images", lambda: documents)
        write_rows(listing, output, heading=not no_heading)


def _read(reader: Reader, request: Request, *, documents: bool) -> list[tuple[Shown, Image | None]]:
    """Return the images of a list; with `documents` each with its config."""
    if request.as_of is not None:
        if request.needs_facts:
            raise click.UsageError(
                "--as-of takes no filter, order or format: the history knows only names and ids"
            )
        return [(image, None) for image in choose(_past_images(reader, request.as_of), request.wanted)]
    if request.needs_facts:
        return _read_facts(reader, request, documents=documents)
    if documents:
        return [(image, image) for image in choose(reader.list(), request.wanted)]
    return [(image, None) for image in choose(reader.summaries(), request.wanted)]


def _past_images(reader: Reader, at: int) -> list[ListedImage]:
    # Imported here because few lists are of the past.
    from imagekeep.database.history import images_as_of

    return ask(reader, images_as_of, at, asked_platform(reader))


def _read_facts(reader: Reader, request: Request, *, documents: bool) -> list[tuple[Shown, Image | None]]:
    # Imported here because most lists are plain.
    from imagekeep.database.listing import Facts, images_by_id, list_for_platform

    facts = Facts(
        created=request.uses("created", "CreatedSince", "CreatedAt"),
        platform=request.uses("Platform"),
        usage=request.uses("last-used", "first-seen", "Containers"),
        state=request.uses("State"),
        sharing=request.uses("unique-size", "UniqueSize", "SharedSize"),
    )
    chosen = choose(
        ask(reader, list_for_platform, request.filters, facts, request.now, asked_platform(reader)),
        request.wanted,
    )
    if request.sort is not None:
        chosen = sort_images(chosen, request.sort, reverse=request.reverse)
    elif request.reverse:
        chosen.reverse()
    chosen = chosen[: request.limit]
    configs = ask(reader, images_by_id, [image.id for image in chosen]) if documents else {}
    return [(image, configs.get(image.id)) for image in chosen]


def _write_tree(reader: Reader, images: Sequence[tuple[Shown, Image | None]], *, truncated: bool) -> None:
    # Imported here because few lists are trees.
    from imagekeep.cli.image_tree import tree_of

    lines = ask(reader, tree_of, [image for image, _ in images], truncated)
    write_all(f"{escape(line)}\n" for line in lines)


def _parse_template(text: str) -> Template:
    return parse_template(_DEFAULT_FORMAT if text == "table" else text, list(PLACEHOLDERS))


def _filled(
    template: Template,
    images: Sequence[tuple[Shown, Image | None]],
    request: Request,
    *,
    truncated: bool,
    heading: bool,
) -> Iterator[str]:
    """Yield the lines of a template, or the table that it describes."""
    values = (
        values
        for image, _ in images
        for values in template_values(image, request.now, request.patterns, truncated=truncated)  # type: ignore[arg-type]
    )
    if template.is_table:
        headings = [template.cells(PLACEHOLDERS)] if heading else []
        return table([*headings, *map(template.cells, values)], minimum=_FORMAT_WIDTH)
    return (f"{escape(line)}\n" for each in values for line in template.render(each).split("\n"))


def _document(image: Shown, config: Image | None, *, wide: bool) -> dict[str, Any]:
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
    """Return what --wide adds; null is what is not known."""
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


def _text(moment: Any) -> str | None:
    from imagekeep.cli.formats import format_time

    return None if moment is None else format_time(moment)
