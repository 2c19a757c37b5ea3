"""The options that several commands share."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import click

if TYPE_CHECKING:
    from collections.abc import Callable

Decorated = TypeVar("Decorated", bound="Callable[..., object]")

no_heading = click.option("-n", "--noheading", "no_heading", is_flag=True, help="Leave out the heading.")
no_truncation = click.option("--no-trunc", is_flag=True, help="Show ids and digests in full.")


def output_format(*formats: str) -> Callable[[Decorated], Decorated]:
    """Return the option that chooses among formats, of which the first is the default."""
    return click.option(
        "-o",
        "--output",
        type=click.Choice(formats),
        default=formats[0],
        show_default=True,
        help="The format.",
    )
