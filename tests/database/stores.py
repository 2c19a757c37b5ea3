"""Makes stores of any revision, by migrating or from frozen files, and files that are not stores."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from alembic import command
from alembic.config import Config

from imagekeep.database.create import make_file
from imagekeep.database.driver import sqlite
from imagekeep.database.migrate import Migration
from tests.database.rows import opened

if TYPE_CHECKING:
    from collections.abc import Callable

CHECKOUT = Path(__file__).parents[2]
STORES = CHECKOUT / "tests" / "data" / "stores"


def thawed(revision: str, path: Path) -> Path:
    """Copy the frozen store of a revision to `path`, and open it once to put it into WAL mode."""
    shutil.copyfile(STORES / f"{revision}.db", path)
    path.chmod(0o600)
    with opened(path):
        return path


def at_revision(revision: str, path: Path) -> Path:
    """Create an empty store of a revision with the migrations."""
    make_file(path)
    move(command.upgrade, path, revision)
    return path


def move(
    verb: Callable[[Config, str], None], path: Path, revision: str, *, scripts: Path | None = None
) -> None:
    """Upgrade or downgrade a store with alembic's command, and with other scripts if given."""
    config = Config(attributes={"migration": Migration(path)})
    config.set_main_option("script_location", str(scripts or CHECKOUT / "migrations"))
    verb(config, revision)


def backups_of(path: Path) -> list[Path]:
    """Return the backups of the store at `path`."""
    return sorted(path.parent.glob(f"{path.name}.*.backup"))


def foreign(path: Path, *statements: str) -> None:
    """Create another program's database."""
    connection = sqlite.connect(str(path))
    for statement in statements:
        connection.execute(statement)
    connection.commit()
    connection.close()
