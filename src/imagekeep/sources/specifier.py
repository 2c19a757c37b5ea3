"""Opens the source that a specifier names: `oci:DIRECTORY`, `archive:FILE` (or `-`), `containerd[:SOCKET]`."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from imagekeep.errors import InvalidArgumentError, printable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from imagekeep.sources.protocol import Source

STANDARD_INPUT_MARK = "-"

SNAPSHOTTER_VARIABLE = "CONTAINERD_SNAPSHOTTER"
"""Names the snapshotter, as for ctr and nerdctl."""


@dataclass(frozen=True, slots=True)
class _Options:
    """The options of `open_source`; each source uses those that apply to it."""

    base_name: str | None
    namespace: str | None


def open_source(spec: str, *, base_name: str | None = None, namespace: str | None = None) -> Source:
    """Return the source that `spec` names; reads nothing yet except from standard input.

    `base_name` is the repository of images that have only a tag, in a layout or an archive. `namespace` is
    containerd's, by default the CRI plugin's. Raises InvalidArgumentError for an unknown scheme, MissingExtraError
    if a package is missing that only this source needs, and as the source's constructor does.
    """
    scheme, _, place = spec.partition(":")
    opener = SCHEMES.get(scheme)
    if opener is None:
        raise InvalidArgumentError(
            f"invalid source {printable(spec)!r}: must start with oci:, archive: or containerd"
        )
    return opener(place, _Options(base_name, namespace))


def _open_layout(place: str, options: _Options) -> Source:
    """Open `oci:DIRECTORY`."""
    # Sources are imported here because a process uses one of them: archives alone take 6 MB.
    from imagekeep.sources.oci_layout import OCILayout

    return OCILayout(_path(place, "oci:DIRECTORY"), base_name=options.base_name)


def _open_archive(place: str, options: _Options) -> Source:
    """Open `archive:FILE`, or `archive:-`."""
    from imagekeep.sources.archive import Archive

    if place != STANDARD_INPUT_MARK:
        path = _path(place, "archive:FILE")
        return Archive(path, base_name=options.base_name)
    if sys.stdin is None:
        raise InvalidArgumentError(
            "archive:- reads standard input, which is closed (pipe an archive into it)"
        )
    if sys.stdin.isatty():
        raise InvalidArgumentError(
            "archive:- reads standard input, which is a terminal (pipe an archive into it)"
        )
    return Archive(sys.stdin.buffer, base_name=options.base_name)


def _open_containerd(place: str, options: _Options) -> Source:
    """Open `containerd`, at its usual socket, or `containerd:SOCKET`: a path, or `unix://` before it.

    Layers are those of the snapshotter that the environment names, as for containerd's own clients.
    """
    # Imported here because gRPC is an extra, and takes longer to import than all other sources together.
    from imagekeep.sources.containerd import (
        DEFAULT_NAMESPACE,
        DEFAULT_SNAPSHOTTER,
        DEFAULT_SOCKET,
        Containerd,
    )

    # CRI clients and kubelets use this form.
    path = _path((place or DEFAULT_SOCKET).removeprefix("unix://"), "containerd:SOCKET")
    return Containerd(
        str(path),
        namespace=options.namespace or DEFAULT_NAMESPACE,
        snapshotter=os.environ.get(SNAPSHOTTER_VARIABLE) or DEFAULT_SNAPSHOTTER,
    )


def _path(place: str, form: str) -> Path:
    """Return the path in a specifier."""
    if not place or "\0" in place:
        raise InvalidArgumentError(f"invalid source: must be {form}, with a path")
    return Path(place)


SCHEMES: Mapping[str, Callable[[str, _Options], Source]] = {
    "oci": _open_layout,
    "archive": _open_archive,
    "containerd": _open_containerd,
}
"""Every kind of source by its scheme: a further one is a module beside this, and a line here."""
