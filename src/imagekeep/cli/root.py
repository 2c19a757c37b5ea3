"""The table of all commands.

To add a command, write a click command in a module beside this one and add its place and summary (the first
sentence of its help) to a table. A command takes `Settings` by `click.pass_obj`, writes through
`imagekeep.cli.output`, raises errors of `imagekeep.errors`, and returns an exit code or None.
"""

from __future__ import annotations

from pathlib import Path

import click

from imagekeep.cli.command import GLOBAL_OPTIONS, LazyGroup, Place, no_pager
from imagekeep.cli.output import write, write_line
from imagekeep.cli.settings import Settings, default_store
from imagekeep.database.driver import DRIVER, sqlite

_LIST = Place("images:list_images", "List images.")

image = LazyGroup(
    "image",
    help="Inspect, remove and pin images.",
    aliases={"list": "ls"},
    table={
        "ls": _LIST,
        "inspect": Place(
            "image:inspect_images", "Show everything stored about images, including their configs."
        ),
        "exists": Place("image:image_exists", "Exit 0 if the image is in the store, 1 if not."),
        "history": Place("history:image_history", "Show what happened to a reference or image, and when."),
        "explain": Place(
            "explain:explain_image", "Show why an image is here, and whether it would be collected."
        ),
        "size": Place("space:show_size", "Show what removing exactly these images would free."),
        "rm": Place("image_actions:remove_images", "Remove images and all their references from the source."),
        "untag": Place("image_actions:untag_references", "Remove references from the source."),
        "pin": Place("image_actions:pin_references", "Pin images to exempt them from garbage collection."),
        "unpin": Place("image_actions:unpin_references", "Unpin images."),
        "prune": Place("prune:prune_images", "Remove the images that nothing uses or pins from the source."),
    },
)

collection = LazyGroup(
    "gc",
    help="Plan garbage collection.",
    table={"plan": Place("gc:show_plan", "Show what a kubelet would remove next; remove nothing.")},
)

database = LazyGroup(
    "db",
    help="Manage the store file.",
    table={
        "info": Place("db_info:show_info", "Show the store's revision, contents and watcher status."),
        "check": Place("db:check_store", "Check the store's invariants and report every violation."),
        "migrate": Place("db:migrate_store", "Migrate the store to this release's schema."),
        "backup": Place("db:back_up", "Back up the store to a new file and print its path."),
        "restore": Place("db:restore", "Replace the store with a backup."),
        "prune-history": Place("db:prune_history", "Remove old changes from the history."),
        "export": Place("db:export", "Copy the store to a file that can be read without write access."),
    },
)


config = LazyGroup(
    "config",
    help="Show the configuration.",
    table={"show": Place("config:show_configuration", "Show the effective options, and where each is from.")},
)


fleet = LazyGroup(
    "fleet",
    help="Ask and manage a fleet of nodes that ship to PostgreSQL.",
    table={
        "holds": Place("fleet:holds", "Show the nodes that have an image, a target or a layer."),
        "lacks": Place("fleet:lacks", "Show the nodes that do not have an image."),
        "drift": Place("fleet:drift", "Show references that have different targets on different nodes."),
        "at": Place("fleet:at", "Show what a node had at a time."),
        "rollout": Place("fleet:rollout", "Show how many nodes gained and lost an image in each hour."),
        "silent": Place("fleet:silent", "Show nodes that have not reported for some time, or never."),
        "top": Place("fleet:top", "Show the images that take the most bytes on all nodes together."),
        "status": Place("fleet:status", "Show the nodes, and when each last reported."),
        "query": Place("fleet:query", "Run a read-only SQL query on the centre's views."),
        "migrate": Place(
            "fleet_centre:migrate", "Create the centre's schema, or migrate it to this release's."
        ),
        "enroll": Place(
            "fleet_centre:enroll",
            "Let a node ship, and write the credentials for `imagekeep ship --credentials`.",
        ),
        "revoke": Place("fleet_centre:revoke", "Stop a node from shipping, and forget what it has now."),
        "prune": Place(
            "fleet_centre:prune", "Delete the old past, and names and images that nothing mentions."
        ),
        "export": Place(
            "fleet_centre:export",
            "Write the centre's views to a directory as Parquet files, all of one state.",
        ),
    },
)


def _print_version(context: click.Context, _option: click.Parameter, asked: bool) -> None:
    if not asked or context.resilient_parsing:
        return
    # Imported here because importing it takes longer than a query.
    from importlib.metadata import PackageNotFoundError, version

    try:
        own = version("imagekeep")
    except PackageNotFoundError:
        own = "(not installed)"
    write_line(f"imagekeep {own} (SQLite {sqlite.sqlite_version}, {DRIVER})")
    context.exit()


def _print_manual(context: click.Context, _option: click.Parameter, asked: bool) -> None:
    if not asked or context.resilient_parsing:
        return
    # Imported here because it loads every command.
    from imagekeep.cli.man import manual

    write(manual(root, "imagekeep"))
    context.exit()


@click.command(
    cls=LazyGroup,
    examples=["imagekeep --source oci:busybox sync", "imagekeep images", "imagekeep --version"],
    context_settings={"help_option_names": ["-h", "--help"]},
    params=[*(option.before_command() for option in GLOBAL_OPTIONS), no_pager()],
    table={
        "images": _LIST,
        "image": image,
        "sync": Place("sync:sync_store", "Update the store from the source."),
        "df": Place("space:show_usage", "Show what images take up, and what could be freed."),
        "gc": collection,
        "log": Place("history:show_log", "Show the changes of all references, newest first."),
        "diff": Place("diff:show_differences", "Show differences between the store and the source."),
        "watch": Place("watch:watch_source", "Watch the source and update the store as it changes."),
        "serve": Place("serve:serve_images", "Serve the CRI image service and keep the store up to date."),
        "ship": Place("ship:ship_history", "Ship the store's changes to the fleet's centre."),
        "fleet": fleet,
        "query": Place("query:query_store", "Run a read-only SQL query."),
        "browse": Place("browse:browse_store", "Show the store in a web browser."),
        "schema": Place("schema:show_schema", "Show the views for SQL, or the columns of one."),
        "db": database,
        "config": config,
        "systemd-units": Place(
            "systemd_units:systemd_units", "Print the systemd units' paths, or install them."
        ),
        "completion": Place("completion:print_completion", "Print a shell completion script."),
    },
)
@click.option(
    "-V",
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_version,
    help="Show the versions of imagekeep and SQLite.",
)
@click.option(
    "--man",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_manual,
    help="Print the manual page: imagekeep --man | man -l -",
)
@click.pass_context
def root(
    context: click.Context,
    path: str | None,
    source: str | None,
    namespace: str | None,
    base_name: str | None,
    platforms: tuple[str, ...],
) -> None:
    """Keep and query a container host's image metadata in SQLite.

    IMAGE is a reference (docker.io/library/busybox:1.36, or busybox:1.36 for short) or an image id, which can be
    truncated. The options below can also follow the command.

    The default store is ~/.local/share/imagekeep/images.db, and /var/lib/imagekeep/images.db for root. The source
    archive:- is an archive on standard input.

    Options can also be set in /etc/imagekeep/imagekeep.toml, or the file that IMAGEKEEP_CONFIG names.
    """
    context.obj = Settings(Path(path) if path else default_store(), source, base_name, platforms, namespace)
