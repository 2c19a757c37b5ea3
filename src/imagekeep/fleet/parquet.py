"""Exports a centre's views as Parquet by way of CSV files and DuckDB, in bounded memory."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from imagekeep.errors import (
    InvalidArgumentError,
    MissingExtraError,
    UnavailableError,
    from_os_error,
    printable,
)

try:
    import duckdb
except ImportError as missing:
    raise MissingExtraError("duckdb", "parquet") from missing

if TYPE_CHECKING:
    from imagekeep.fleet.reading import PostgresFleet

EXPORTED = (
    *("node_status", "node_epochs", "node_references", "node_images", "layer_images"),
    *("incomplete_references", "node_conflicts", "tag_drift", "image_totals", "fleet_totals"),
)
"""The views that are exported; the others follow from them."""

_TYPES = {
    "boolean": "BOOLEAN",
    "integer": "INTEGER",
    "bigint": "BIGINT",
    "timestamp with time zone": "TIMESTAMPTZ",
}
"""DuckDB's types for PostgreSQL's; any other is text."""


def export(fleet: PostgresFleet, directory: Path) -> list[Path]:
    """Write each view to `directory` as VIEW.parquet, all of one state; return the files.

    Raises InvalidArgumentError if one exists, and UnavailableError or PermissionDeniedError if writing fails.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        files = [directory / f"{view}.parquet" for view in EXPORTED]
        for file in files:
            if file.exists():
                raise InvalidArgumentError(f"{printable(file)} already exists; choose another directory")
        with tempfile.TemporaryDirectory(dir=directory) as name, fleet.one_state():
            for view, file in zip(EXPORTED, files, strict=True):
                _convert(fleet, view, Path(name) / "rows.csv", file)
    except OSError as error:
        raise from_os_error(error, printable(directory), UnavailableError) from error
    return files


def _convert(fleet: PostgresFleet, view: str, csv: Path, parquet: Path) -> None:
    types = {name: _TYPES.get(kind, "VARCHAR") for name, kind in fleet.columns_of(view).items()}
    fleet.copy(view, csv)
    with duckdb.connect() as connection:
        rows = connection.read_csv(
            str(csv), header=True, columns=types, delimiter=",", quotechar='"', escapechar='"', na_values="",
            allow_quoted_nulls=False, max_line_size=1 << 20,
        )  # fmt: skip
        rows.write_parquet(str(parquet), compression="zstd")
