"""`imagekeep --man`: the manual page, made from the texts of --help.

docs/imagekeep.1 is this page, and is installed as share/man/man1/imagekeep.1; a test compares them.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import click

from imagekeep.cli.command import ExampleCommand, LazyGroup, Place

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

EXIT_CODES = (
    ("0", "success"),
    ("1", "not found; for `diff`, differences were found"),
    ("2", "usage error"),
    ("3", "a truncated id is ambiguous"),
    ("4", "refused: a pinned image, a read-only source, another source than the store follows"),
    ("5", "done, but some references could not be read"),
    ("125", "the store or the source failed"),
    ("130", "interrupted by SIGINT"),
    ("141", "the reader of standard output closed it"),
)

ENVIRONMENT = (
    ("PAGER", "Shows long output on a terminal; `less` by default, empty for none."),
    ("NO_COLOR", "If not empty, no colors."),
)
"""Variables other than those of options."""

FILES = (
    ("/var/lib/imagekeep/images.db", "The store of root."),
    ("~/.local/share/imagekeep/images.db", "The store of another user; under $XDG_DATA_HOME if that is set."),
)

SEE_ALSO = "crictl(1), ctr(8), sqlite3(1)"

_SPECIAL = str.maketrans({"\\": r"\e", "-": r"\-", "'": r"\(aq", "`": r"\(ga", "^": r"\(ha", "~": r"\(ti"})

_CODE = re.compile(r"`([^`]+)`")


def manual(root: LazyGroup, program: str) -> str:
    """Return the manual page of the program in roff, with everything that --help shows."""
    context = click.Context(root, info_name=program, **root.context_settings)
    return "\n".join(
        [
            f'.TH {program.upper()} 1 "" {program} "User Commands"',
            ".SH NAME",
            rf"{program} \- {_text(_sentence(root.help))}",
            ".SH SYNOPSIS",
            rf".B {program}",
            r"[\fIOPTIONS\fR] \fICOMMAND\fR [\fIARGUMENTS\fR]",
            ".SH DESCRIPTION",
            *_paragraphs(_after_first(root.help)),
            ".SH OPTIONS",
            *_options(root, context),
            ".SH COMMANDS",
            *_commands(root, context, set()),
            ".SH ENVIRONMENT",
            *_terms(_variables(root, context)),
            ".SH FILES",
            *_terms(FILES),
            ".SH EXIT STATUS",
            *_terms(EXIT_CODES),
            ".SH EXAMPLES",
            *_examples(root),
            ".SH SEE ALSO",
            _text(SEE_ALSO),
            "",
        ]
    )


def _commands(group: LazyGroup, context: click.Context, shown: set[str]) -> Iterator[str]:
    """Yield the commands of a group and of the groups in it, except those already shown under another name."""
    for name, found in group.table.items():
        if isinstance(found, Place):
            if found.command in shown:
                continue
            shown.add(found.command)
        command = found.load() if isinstance(found, Place) else found
        inner = click.Context(command, info_name=name, parent=context)
        if isinstance(command, LazyGroup):
            yield from _commands(command, inner, shown)
        else:
            yield from _command(command, inner)


def _command(command: click.Command, context: click.Context) -> Iterator[str]:
    pieces = [_text(piece) for piece in command.collect_usage_pieces(context)]
    yield f".SS {_text(context.command_path)} {' '.join(pieces)}"
    yield from _paragraphs(command.help or "")
    yield from _options(command, context)
    yield from _examples(command)


def _options(command: click.Command, context: click.Context) -> Iterator[str]:
    """Yield the options of a command; --help only for the program."""
    shown = command.get_params(context) if context.parent is None else command.params
    records = (option.get_help_record(context) for option in shown if isinstance(option, click.Option))
    return _terms(record for record in records if record is not None)


def _examples(command: click.Command) -> Iterator[str]:
    """Yield the examples, each on one line however long it is."""
    if isinstance(command, ExampleCommand) and command.examples:
        yield ".PP"
        yield ".nf"
        yield ".RS"
        yield from map(_text, command.examples)
        yield ".RE"
        yield ".fi"


def _variables(root: LazyGroup, context: click.Context) -> Iterator[tuple[str, str]]:
    for parameter in root.get_params(context):
        if isinstance(parameter, click.Option) and isinstance(parameter.envvar, str):
            yield parameter.envvar, f"The default of {parameter.opts[0]}."
    yield from ENVIRONMENT


def _terms(terms: Iterable[tuple[str, str]]) -> Iterator[str]:
    for term, meaning in terms:
        yield ".TP"
        yield rf"\fB{_text(term)}\fR"
        yield _prose(meaning)


def _paragraphs(text: str) -> Iterator[str]:
    for paragraph in filter(None, re.split(r"\n\s*\n", text.strip())):
        yield ".PP"
        yield _prose(" ".join(paragraph.split()))


def _prose(text: str) -> str:
    """Return a text with what stands between backquotes in bold."""
    parts = _CODE.split(text)
    prose = "".join(
        rf"\fB{_text(part)}\fR" if number % 2 else _text(part) for number, part in enumerate(parts)
    )
    return prose if not prose.startswith(".") else rf"\&{prose}"


def _text(text: str) -> str:
    """Return text that roff shows as it is, in ASCII."""
    escaped = "".join(c if c.isascii() else f"\\[u{ord(c):04X}]" for c in text.translate(_SPECIAL))
    return rf"\&{escaped}" if escaped.startswith(".") else escaped


def _sentence(text: str | None) -> str:
    """Return the first sentence of a help text, as a title."""
    first = (text or "").strip().split("\n\n")[0]
    return " ".join(first.split()).rstrip(".")


def _after_first(text: str | None) -> str:
    return (text or "").strip().partition("\n\n")[2]
