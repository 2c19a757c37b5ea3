"""The views of a store, which are stable across releases."""

from __future__ import annotations

from sqlalchemy import JSON, Boolean, Column, Integer, MetaData, Table, Text

views = MetaData()
"""The views, apart from the tables: alembic compares only these."""

image_list = Table(
    "image_list",
    views,
    Column("id", Text, comment="digest of the config document"),
    Column("reference_names", JSON, comment="a list, in docker's order"),
    Column("size", Integer, comment="compressed bytes"),
    Column("pinned", Boolean, comment="whether a reference pins it"),
    Column("chain_id", Text, comment="identifies the ordered layers; empty without layers"),
    comment="one row is an image of the first platform",
)

reference_list = Table(
    "reference_list",
    views,
    Column("reference", Text, comment="as the source spells it"),
    Column("image_id", Text),
    Column("target_digest", Text, comment="of the manifest or index; null if no source was asked"),
    Column("pinned", Boolean),
    Column("verified", Text, comment="when the source last confirmed it: ISO 8601, UTC"),
    comment="one row is a reference of the first platform",
)

config_list = Table(
    "config_list",
    views,
    Column("id", Text, comment="digest of the config document"),
    Column("os", Text),
    Column("architecture", Text),
    Column("variant", Text),
    Column("created", Text, comment="as the config says it"),
    Column("user", Text),
    Column("working_directory", Text),
    Column("entrypoint", JSON),
    Column("command", JSON),
    Column("layers", Integer, comment="how many"),
    comment="one row is what the config of an image of the first platform says, without Env and Labels",
)

history_list = Table(
    "history_list",
    views,
    Column("sequence", Integer, comment="grows with time"),
    Column("time", Text, comment="ISO 8601, UTC"),
    Column("reference", Text),
    Column("event", Text),
    Column("image_id", Text, comment="named from then on; when vanished, until then"),
    Column("target_digest", Text, comment="null if no source was asked"),
    Column("pinned", Boolean),
    Column("size", Integer, comment="compressed bytes; null in rows before revision 0005, and if vanished"),
    Column("platform", Text, comment="null in rows before revision 0005"),
    comment="one row is a change to a reference",
)
