"""An empty store for each example, on tmpfs if there is one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.comparison import Stores, fresh_stores

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from pathlib import Path

    NewStores = Callable[[], AbstractContextManager[Stores]]


@pytest.fixture(scope="session")
def new_stores(store_template: Path) -> NewStores:
    """Return a function that creates a store; a fixture lasts for all examples of a test."""
    return lambda: fresh_stores(store_template)
