"""`imagekeep images`, or `imagekeep image ls`: images as crictl lists them (cri-tools: cmd/crictl/image.go)."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

import click

from imagekeep.cli.command import command, filter_option, no_heading, no_truncation, row_format
from imagekeep.cli.image_output import Form, document_of, filled, parse_form
from imagekeep.cli.image_rows import (
    SORTS,
    Columns,
    choose,
    sort_images,
)
from imagekeep.cli.output import write_all
from imagekeep.cli.pager import paging
from imagekeep.cli.rows import Listing, write_rows
from imagekeep.cli.stored_names import complete_references
from imagekeep.cli.times import moment_option
from imagekeep.escaping import escape
from imagekeep.questions.filters import Filter, parse_filters
from imagekeep.questions.globs import ReferenceGlob
from imagekeep.questions.listed import ListedImage
from imagekeep.reader import ask
from imagekeep.reference import parse_normalized

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from imagekeep.cli.settings import Settings
    from imagekeep.image import Image, ImageSummary
    from imagekeep.reader import Reader
    from imagekeep.reference import Reference

    Shown = ImageSummary | ListedImage

_DOCUMENTS = ("json", "jsonl", "yaml")
"""The formats with crictl's fields, which need the configs."""


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
    form: Form | None
    now: int
    platforms: Sequence[str | None]

    @property
    def needs_facts(self) -> bool:
        """Return whether the list needs more than names and sizes in the usual order."""
        shown = self.wide or self.tree or self.form
        return bool(self.filters or self.sort or self.reverse or self.limit is not None or shown)

    @property
    def patterns(self) -> tuple[ReferenceGlob, ...]:
        """Return the patterns; a name must match one of them."""
        positive = (each for each in self.filters if each.key == "reference" and not each.negated)
        return tuple(ReferenceGlob(each.value) for each in positive)

    def uses(self, *names: str) -> bool:
        """Return whether the list sorts by one of these keys or shows one of these placeholders."""
        shown = self.form.placeholders if self.form else ()
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
@filter_option("Keep images that match; KEY!=VALUE leaves them out.", "-f")
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
    form = None if template is None else parse_form(template)
    chosen = parse_filters(filters)
    with settings.open_reader() as reader:
        platforms = settings.asked_platforms(reader)
        now = time.time_ns()
        request = Request(wanted, as_of, chosen, sort, reverse, limit, wide, tree, form, now, platforms)
        images = _read(reader, request, documents=output in _DOCUMENTS and not quiet)
        if tree and not quiet:
            _write_tree(reader, images, truncated=not no_trunc)
            return
    if quiet:
        write_all(f"{escape(image.id)}\n" for image, _ in images)
    elif request.form is not None:
        listed = [image for image, _ in images if isinstance(image, ListedImage)]
        patterns, heading = request.patterns, not no_heading
        _write_paged(
            filled(request.form, listed, request.now, patterns, truncated=not no_trunc, heading=heading)
        )
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
        documents = (document_of(image, config, wide=wide) for image, config in images)
        listing = Listing(columns.columns(), rows, "images", lambda: documents)
        write_rows(listing, output, heading=not no_heading)


def _read(reader: Reader, request: Request, *, documents: bool) -> list[tuple[Shown, Image | None]]:
    """Return the images of a list; with `documents` each with its config."""
    if request.as_of is not None:
        if request.needs_facts:
            raise click.UsageError(
                "--as-of takes no filter, order or format: the history knows only names and ids"
            )
        return [(image, None) for image in choose(_past_images(reader, request), request.wanted)]
    if request.needs_facts or len(request.platforms) > 1:
        return _read_facts(reader, request, documents=documents)
    if documents:
        return [(image, image) for image in choose(reader.list(), request.wanted)]
    return [(image, None) for image in choose(reader.summaries(), request.wanted)]


def _past_images(reader: Reader, request: Request) -> list[ListedImage]:
    # Imported here because few lists are of the past.
    from imagekeep.database.history import images_as_of

    found: dict[str, ListedImage] = {}
    for platform in request.platforms:
        for image in ask(reader, images_as_of, request.as_of, platform):
            found.setdefault(image.id, image)
    return [found[image_id] for image_id in sorted(found)]


def _read_facts(reader: Reader, request: Request, *, documents: bool) -> list[tuple[Shown, Image | None]]:
    # Imported here because most lists are plain.
    from imagekeep.database.listing import Facts, images_by_id, list_for_platforms

    facts = Facts(
        created=request.uses("created", "CreatedSince", "CreatedAt"),
        platform=request.uses("Platform"),
        usage=request.uses("last-used", "first-seen", "Containers"),
        state=request.uses("State"),
        sharing=request.uses("unique-size", "UniqueSize", "SharedSize"),
    )
    chosen = choose(
        ask(reader, list_for_platforms, request.filters, facts, request.now, request.platforms),
        request.wanted,
    )
    if request.sort is not None:
        chosen = sort_images(chosen, request.sort, reverse=request.reverse)
    elif request.reverse:
        chosen.reverse()
    chosen = chosen[: request.limit]
    configs = ask(reader, images_by_id, [image.id for image in chosen]) if documents else {}
    return [(image, configs.get(image.id)) for image in chosen]


def _write_paged(pieces: Iterable[str]) -> None:
    """Write text through a pager on a terminal."""
    with paging():
        write_all(pieces)


def _write_tree(reader: Reader, images: Sequence[tuple[Shown, Image | None]], *, truncated: bool) -> None:
    # Imported here because few lists are trees.
    from imagekeep.cli.image_tree import tree_of

    lines = ask(reader, tree_of, [image for image, _ in images], truncated)
    _write_paged(f"{escape(line)}\n" for line in lines)
