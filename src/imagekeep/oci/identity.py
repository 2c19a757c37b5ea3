"""The chain ids that identify layers one upon another (image-spec, config: Layer ChainID; Go: identity)."""

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING

from imagekeep.digest import digest_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


def chain_ids(diff_ids: Iterable[str]) -> list[str]:
    """Return the chain id of each layer upon those below it, lowest first (identity: ChainIDs).

    The first is the diff id itself, as it stands: diff ids are not checked.
    """
    return list(accumulate(diff_ids, lambda below, diff_id: digest_of(f"{below} {diff_id}".encode())))


def chain_id(diff_ids: Sequence[str]) -> str:
    """Return the chain id of all the layers together, empty where there are none (identity: ChainID)."""
    return chain_ids(diff_ids)[-1] if diff_ids else ""
