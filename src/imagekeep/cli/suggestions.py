"""Suggestions for unknown commands: other tools' words, and similar spellings."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

_CHANGES_CONTAINERD = (
    "imagekeep does not pull or run images: use crictl, ctr or nerdctl, then `imagekeep sync`"
)

ELSEWHERE = {
    "imagekeep": {
        **dict.fromkeys(("image-list", "list", "ls", "lsi"), "imagekeep images"),
        **dict.fromkeys(("delete", "remove", "rm", "rmi"), "imagekeep image rm"),
        **dict.fromkeys(("inspect", "inspecti", "show"), "imagekeep image inspect"),
        **dict.fromkeys(("history", "log"), "imagekeep image history"),
        "exists": "imagekeep image exists",
        "pin": "imagekeep image pin",
        "unpin": "imagekeep image unpin",
        "untag": "imagekeep image untag",
        "version": "imagekeep --version",
        "help": "imagekeep --help",
        **dict.fromkeys(("info", "status"), "imagekeep db info"),
        **dict.fromkeys(("check", "fsck", "verify"), "imagekeep db check"),
        **dict.fromkeys(("migrate", "upgrade"), "imagekeep db migrate"),
        "backup": "imagekeep db backup",
        "restore": "imagekeep db restore",
        **dict.fromkeys(("dump", "export"), "imagekeep db export"),
        **dict.fromkeys(("compare", "drift"), "imagekeep diff"),
        **dict.fromkeys(("import", "load", "refresh", "update"), "imagekeep sync"),
        **dict.fromkeys(("events", "follow", "monitor"), "imagekeep watch"),
        **dict.fromkeys(("cri", "daemon", "run-server", "server", "start"), "imagekeep serve"),
        **dict.fromkeys(("select", "sql", "sqlite3"), "imagekeep query"),
        **dict.fromkeys(("page", "ui", "web"), "imagekeep browse"),
        **dict.fromkeys(("columns", "tables", "views"), "imagekeep schema"),
        **dict.fromkeys(("imagefsinfo", "df"), "imagekeep db info"),
    },
    "imagekeep image": {
        **dict.fromkeys(("delete", "remove", "rmi"), "imagekeep image rm"),
        **dict.fromkeys(("inspecti", "show"), "imagekeep image inspect"),
    },
    "imagekeep db": {
        "status": "imagekeep db info",
        **dict.fromkeys(("fsck", "verify"), "imagekeep db check"),
        "upgrade": "imagekeep db migrate",
        "copy": "imagekeep db backup",
        "dump": "imagekeep db export",
    },
}
"""Commands of crictl, ctr, nerdctl, podman and others, and imagekeep's equivalents, by group."""

_OF_IMAGES = ("delete", "remove", "rm")
"""Words that do not refer to images after `db`."""

OF_OTHER_GROUPS = {
    **{
        name: f"imagekeep {name}"
        for name in ("browse", "completion", "diff", "images", "query", "schema", "serve", "sync")
    },
    **{name: f"imagekeep {name}" for name in ("systemd-units", "watch")},
    **{word: meant for word, meant in ELSEWHERE["imagekeep"].items() if word not in _OF_IMAGES},
}
"""Equivalents of words typed in the wrong group."""

_REFUSED = {
    **dict.fromkeys(
        ("build", "commit", "create", "exec", "pull", "push", "ps", "run", "save", "stop", "tag"),
        _CHANGES_CONTAINERD,
    ),
    **dict.fromkeys(
        ("gc", "prune"),
        "containerd collects unreferenced content: remove references with `imagekeep image rm`",
    ),
}
"""Other tools' commands without an equivalent, and why."""

CUTOFF = 0.6
"""Minimum similarity, from 0 to 1, of a misspelling."""


def advise(group: str, word: str, commands: Mapping[str, object]) -> str | None:
    """Return what to type instead of the command `word` of a group such as `imagekeep db`, or None."""
    known = {name: f"{group} {name}" for name in commands} | ELSEWHERE.get(group, {})
    lowered = word.lower()
    if found := known.get(lowered) or OF_OTHER_GROUPS.get(lowered):
        return f"use `{found}`"
    if lowered in _REFUSED:
        return _REFUSED[lowered]
    near = difflib.get_close_matches(lowered, known, n=1, cutoff=CUTOFF)
    return f"did you mean `{known[near[0]]}`?" if near else None
