"""The command's options, and the table of all commands.

To add a command, write a module beside this one with one click command in it, and give it a line in a table:
its place and its summary, which is the first sentence of its help. It takes `Settings` by `click.pass_obj`,
writes through `imagekeep.cli.output`, raises errors of `imagekeep.errors`, and returns an exit code or None.
"""

from __future__ import annotations

from pathlib import Path

import click

from imagekeep.cli.global_options import GLOBAL_OPTIONS
from imagekeep.cli.lazy import LazyGroup, Place
from imagekeep.cli.output import write_line
from imagekeep.cli.settings import Settings, default_store
from imagekeep.database.driver import DRIVER, sqlite

_LIST = Place("images:list_images", "List images.")

image = LazyGroup(
    "image",
    help="Look at images, and act on them at their source.",
    aliases={"list": "ls"},
    table={
        "ls": _LIST,
        "inspect": Place("inspect:inspect_images", "Show all that is kept of images, configs included."),
        "exists": Place("exists:image_exists", "Tell by the exit code whether an image is here."),
        "history": Place("history:image_history", "Show what a reference pointed at, and when."),
        "rm": Place(
            "image_actions:remove_images", "Remove images from the source, with all their references."
        ),
        "untag": Place(
            "image_actions:untag_references",
            "Remove references from the source, and an image with its last one.",
        ),
        "pin": Place(
            "image_actions:pin_references",
            "Keep images from garbage collection, by a label of their references.",
        ),
        "unpin": Place("image_actions:unpin_references", "Unpin images."),
    },
)

database = LazyGroup(
    "db",
    help="Manage the store file.",
    table={
        "info": Place("db_info:show_info", "Show what the store is and holds."),
        "check": Place(
            "db_check:check_store", "Check every invariant, and name each object and row that breaks one."
        ),
        "migrate": Place("db_migrate:migrate_store", "Migrate the store to this release's schema."),
        "backup": Place("db_copy:back_up", "Copy the store to a new file, and print its name."),
        "restore": Place(
            "db_copy:restore", "Replace the store with a copy, and back up the store as it was."
        ),
        "export": Place(
            "db_copy:export", "Copy the store to a new file that can be read without write access."
        ),
    },
)


def _print_version(context: click.Context, _option: click.Parameter, asked: bool) -> None:
    """Print the versions of imagekeep and of SQLite, and end."""
    if not asked or context.resilient_parsing:
        return
    # Nothing else needs this module, and importing it takes longer than an answer from the store.
    from importlib.metadata import PackageNotFoundError, version

    try:
        own = version("imagekeep")
    except PackageNotFoundError:
        own = "(not installed)"
    write_line(f"imagekeep {own} (SQLite {sqlite.sqlite_version}, {DRIVER})")
    context.exit()


@click.command(
    cls=LazyGroup,
    examples=["imagekeep --source oci:busybox sync", "imagekeep images", "imagekeep --version"],
    context_settings={"help_option_names": ["-h", "--help"]},
    params=[option.before_command() for option in GLOBAL_OPTIONS],
    table={
        "images": _LIST,
        "image": image,
        "sync": Place("sync:sync_store", "Update the store from the source."),
        "diff": Place(
            "diff:show_differences", "Show where the store and the source differ, without changing either."
        ),
        "watch": Place("watch:watch_source", "Follow the source, and update the store as it changes."),
        "serve": Place("serve:serve_images", "Serve the CRI image service, and keep the store up to date."),
        "query": Place("query:query_store", "Run a read-only SQL query."),
        "db": database,
        "systemd-units": Place("systemd_units:systemd_units", "Print where the systemd units are."),
        "completion": Place("completion:print_completion", "Print the completion script of a shell."),
    },
)
@click.option(
    "-V",
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_version,
    help="Show the versions.",
)
@click.pass_context
def root(
    context: click.Context,
    path: str | None,
    source: str | None,
    namespace: str | None,
    base_name: str | None,
    platform: str | None,
) -> None:
    """Keep a container host's images in one SQLite file, and answer from it.

    An IMAGE is a reference, a familiar name (busybox), an image id, or the beginning of one. The options below
    may also follow the command.
    """
    context.obj = Settings(Path(path) if path else default_store(), source, base_name, platform, namespace)
