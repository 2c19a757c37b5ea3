"""The conformance data: the answers of the real Go code, from a directory that can be replaced.

The directory is IMAGEKEEP_CONFORMANCE, else `shared/conformance` beside the checkout, else the compressed copy
in `tests/data/conformance`. Files are found by pattern, so that a directory with more of them runs unchanged.
"""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path
from typing import Any

from imagekeep.platform import Platform

TESTS = Path(__file__).parents[1]
BESIDE = TESTS.parents[1] / "shared" / "conformance"
COPY = TESTS / "data" / "conformance"

Case = dict[str, Any]


def directory() -> Path:
    """Return the directory that holds the data."""
    if given := os.environ.get("IMAGEKEEP_CONFORMANCE"):
        return Path(given)
    return BESIDE if BESIDE.is_dir() else COPY


def documents(subject: str) -> list[tuple[str, Case]]:
    """Return the name and content of every file of a subject: `subject*.json`, or the same with `.gz`."""
    found = sorted(directory().glob(f"{subject}*.json")) + sorted(directory().glob(f"{subject}*.json.gz"))
    if not found:
        raise FileNotFoundError(f"no {subject}*.json in {directory()}")
    return [(path.name, json.loads(read(path))) for path in found]


def read(path: Path) -> bytes:
    """Return a file's bytes, decompressed if its name ends in `.gz`."""
    return gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()


def cases(subject: str) -> list[tuple[str, Case]]:
    """Return every case of a subject with a name for it: file, number, and the case's own label."""
    return [
        (f"{name}:{number}:{case.get('name') or case.get('label') or case.get('kind') or ''}", case)
        for name, document in documents(subject)
        for number, case in enumerate(document["cases"])
    ]


def platform_of(fields: Case) -> Platform:
    """Return the platform in a case, whose keys are those of the image-spec."""
    return Platform(
        fields["os"],
        fields["architecture"],
        fields.get("variant", ""),
        fields.get("os.version", ""),
        tuple(fields.get("os.features", ())),
    )
