"""CRI servers in this process, each with the test's own store and source."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import TYPE_CHECKING, Any, Protocol

import pytest

from imagekeep.cri.server import ServerConfig, serve
from imagekeep.cri.sockets import Access
from imagekeep.reader import Reader
from tests.cri.client import Client

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path


class Serve(Protocol):
    """Serves a store until the test ends; takes the fields of ServerConfig, and returns a client."""

    def __call__(self, **fields: Any) -> Client: ...


class RunningServer(threading.Thread):
    """A server in a thread; `begin` returns when it answers, or raises its error."""

    def __init__(self, serving: ServerConfig) -> None:
        super().__init__(name="server")
        self._serving = serving
        self._ready = threading.Event()
        self.error: BaseException | None = None

    def begin(self) -> None:
        self.start()
        self._ready.wait()
        if self.error is not None:
            self.join()
            raise self.error

    def run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:
            self.error = error
        finally:
            self._ready.set()

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._ending = asyncio.Event()

        @contextlib.asynccontextmanager
        async def background() -> AsyncIterator[None]:
            async with self._serving.background():
                self._ready.set()
                yield

        fields = {**vars(self._serving), "background": background}
        await serve(ServerConfig(**fields), self._ending)

    def end(self) -> None:
        """Stop it; raises its error, if any."""
        if self.is_alive():
            self._loop.call_soon_threadsafe(self._ending.set)
            self.join()
        if self.error is not None:
            raise self.error


@pytest.fixture
def socket(tmp_path: Path) -> Path:
    """Return the path of the test server's socket."""
    return tmp_path / "cri.sock"


@pytest.fixture
def reader(store_path: Path) -> Iterator[Reader]:
    """Return a reader of the test's store."""
    with Reader.open(store_path) as opened:
        yield opened


@pytest.fixture
def serving(reader: Reader, socket: Path, tmp_path: Path) -> ServerConfig:
    """Return the default configuration: a store without a source."""
    return ServerConfig(reader=reader, path=socket, access=Access(), mountpoint=str(tmp_path))


@pytest.fixture
def begin(serving: ServerConfig, socket: Path) -> Iterator[Serve]:
    """Return a function that starts a server."""
    with contextlib.ExitStack() as stack:

        def begin_with(**fields: Any) -> Client:
            server = RunningServer(ServerConfig(**{**vars(serving), **fields}))
            server.begin()
            stack.callback(server.end)
            return stack.enter_context(Client(socket))

        yield begin_with
