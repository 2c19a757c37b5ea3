from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagekeep.database.lock import (
    ALL_REFERENCES,
    TURNSTILE,
    WRITERS,
    ByteRange,
    lock_references,
    locked,
    ranges_of,
)
from imagekeep.errors import (
    PermissionDeniedError,
    StoreBusyError,
    StoreUnavailableError,
    UntrustedFileError,
)
from tests.permissions import without_privileges

if TYPE_CHECKING:
    from collections.abc import Iterator

AT_ONCE = 0.0
LONG = 60.0

HOLD = """
import sys
from pathlib import Path
from imagekeep.database.lock import WRITERS, locked
with locked(Path(sys.argv[1]), [WRITERS], 0):
    print("held", flush=True)
    sys.stdin.read()
"""

FORK = """
import os, sys
from pathlib import Path
from imagekeep.database.lock import WRITERS, locked
path = Path(sys.argv[1])
waits_here, end = os.pipe()
with locked(path, [WRITERS], 0):
    child = os.fork()
    if child == 0:
        os.close(end)
        os.read(waits_here, 1)
        os._exit(0)
with locked(path, [WRITERS], 0):
    print("free while the child lives")
os.close(end)
os.waitpid(child, 0)
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The path of a store; locking does not need the store itself."""
    return tmp_path / "images.db"


@pytest.fixture
def holder(path: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that holds the writer lock until its standard input ends."""
    command = [sys.executable, "-c", HOLD, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        if process.poll() is None:
            process.kill()


def take(path: Path, *extents: ByteRange, wait: float = AT_ONCE) -> None:
    """Take and release locks, by default the writer lock."""
    with locked(path, extents or (WRITERS,), wait):
        pass


def is_free(path: Path, *extents: ByteRange) -> bool:
    """Return whether the locks are free."""
    try:
        take(path, *extents)
    except StoreBusyError:
        return False
    return True


def test_a_process_excludes_another(path: Path, holder: subprocess.Popen[str]) -> None:
    assert not is_free(path)


def test_the_lock_is_free_once_its_holder_is_done(path: Path, holder: subprocess.Popen[str]) -> None:
    holder.communicate()

    assert is_free(path)


def test_the_lock_is_free_once_its_holder_is_killed(path: Path, holder: subprocess.Popen[str]) -> None:
    holder.send_signal(signal.SIGKILL)
    holder.wait()

    assert is_free(path)


def test_a_waiter_gets_the_lock_once_its_holder_is_killed(path: Path, holder: subprocess.Popen[str]) -> None:
    got = []

    def wait() -> None:
        with locked(path, [WRITERS], LONG):
            got.append("the lock")

    waiter = threading.Thread(target=wait)
    waiter.start()
    holder.kill()
    holder.wait()
    waiter.join()

    assert got == ["the lock"]


def test_a_thread_excludes_another(path: Path) -> None:
    got = []
    with locked(path, [WRITERS], AT_ONCE):
        other = threading.Thread(target=lambda: got.append(is_free(path)))
        other.start()
        other.join()

    assert got == [False]


def test_threads_never_hold_the_lock_at_once(path: Path) -> None:
    inside, most = [0], [0]

    def work() -> None:
        for _ in range(50):
            with locked(path, [WRITERS], LONG):
                inside[0] += 1
                most[0] = max(most[0], inside[0])
                inside[0] -= 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert most == [1]


def test_the_lock_is_free_after_an_error(path: Path) -> None:
    with pytest.raises(ZeroDivisionError), locked(path, [WRITERS], AT_ONCE):
        _ = 1 / 0

    assert is_free(path)


def test_a_timeout_is_an_error_that_names_the_file_and_the_wait(
    path: Path, holder: subprocess.Popen[str]
) -> None:
    with pytest.raises(StoreBusyError, match=rf"store {path}: locked by another writer for 0\.01 s"):
        take(path, wait=0.01)


def test_locks_taken_before_a_timeout_are_released(path: Path, holder: subprocess.Popen[str]) -> None:
    with pytest.raises(StoreBusyError):
        take(path, ByteRange(5, 1), WRITERS)

    assert is_free(path, ByteRange(5, 1))


def test_a_forked_child_does_not_hold_the_lock(path: Path) -> None:
    forked = subprocess.run(
        [sys.executable, "-c", FORK, str(path)], capture_output=True, text=True, check=True
    )

    assert forked.stdout == "free while the child lives\n"


def test_references_are_locked_independently(path: Path) -> None:
    with locked(path, ranges_of(["a"]), AT_ONCE):
        assert is_free(path, *ranges_of(["b"]))


def test_one_reference_is_locked_once(path: Path) -> None:
    with locked(path, ranges_of(["a"]), AT_ONCE):
        assert not is_free(path, *ranges_of(["a"]))


def test_a_lock_on_all_references_leaves_the_writer_lock_free(path: Path) -> None:
    with locked(path, [ALL_REFERENCES], AT_ONCE):
        assert is_free(path, WRITERS)


@given(st.lists(st.text(st.characters(codec="utf-8"))))
def test_a_lock_on_all_references_includes_each(references: list[str]) -> None:
    last = ALL_REFERENCES.start + ALL_REFERENCES.length

    assert all(ALL_REFERENCES.start <= byte < last and n == 1 for byte, n in ranges_of(references))


@given(st.lists(st.text(st.characters(codec="utf-8"))))
def test_locks_are_always_taken_in_the_same_order(references: list[str]) -> None:
    assert ranges_of(references) == ranges_of(reversed(references)) == sorted(ranges_of(references))


def test_the_lock_file_is_private(path: Path) -> None:
    before = os.umask(0)
    try:
        assert is_free(path)
    finally:
        os.umask(before)

    assert Path(f"{path}-lock").stat().st_mode & 0o777 == 0o600


def test_a_lock_file_that_is_a_link_is_refused(path: Path, tmp_path: Path) -> None:
    Path(f"{path}-lock").symlink_to(tmp_path / "elsewhere")

    with pytest.raises(UntrustedFileError, match="-lock: a symbolic link"):
        take(path)
    assert not (tmp_path / "elsewhere").exists()


def test_a_missing_directory_is_an_error_that_names_the_lock_file(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailableError, match=r"missing/images\.db-lock: No such file"):
        take(tmp_path / "missing" / "images.db")


def test_a_directory_without_permission_is_a_specific_error(public_directory: Path) -> None:
    public_directory.chmod(0o555)

    with without_privileges(), pytest.raises(PermissionDeniedError, match=r"images\.db-lock"):
        take(public_directory / "images.db")


def test_newcomers_do_not_overtake_a_waiter_for_all_references(path: Path) -> None:
    everyone = threading.Thread(target=enter_and_leave, args=(path,))
    with lock_references(path, ["early"]):
        everyone.start()
        wait_until_held(path, TURNSTILE)
        with pytest.raises(StoreBusyError), locked(path, ranges_of(["late"]), AT_ONCE, through=TURNSTILE):
            pass
    everyone.join(LONG)
    assert not everyone.is_alive()


def enter_and_leave(path: Path) -> None:
    """Lock all references for a moment."""
    with lock_references(path, None):
        pass


def wait_until_held(path: Path, extent: ByteRange) -> None:
    """Return once another process holds a byte range."""
    deadline = time.monotonic() + LONG
    while time.monotonic() < deadline:
        try:
            with locked(path, [extent], AT_ONCE):
                pass
        except StoreBusyError:
            return
    raise TimeoutError


WITHOUT_LOCKS = """
import sys
from imagekeep import Store, StoreUnavailableError
from tests.kernel import refuse
from tests.model import IMAGES
store = Store.open(sys.argv[1], platform="linux/amd64")
store.apply("app:1", IMAGES[0])
refuse(fcntl=int(sys.argv[2]))
try:
    store.apply("app:2", IMAGES[1])
except StoreUnavailableError as error:
    print(error)
"""


@pytest.mark.parametrize("error", [errno.EINVAL, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_file_system_without_these_locks_is_reported(store_path: Path, error: int) -> None:
    command = [sys.executable, "-c", WITHOUT_LOCKS, str(store_path), str(error)]
    said = subprocess.run(command, capture_output=True, text=True, check=False)

    assert said.stdout == (
        f"lock file {store_path}-lock: {os.strerror(error)} (the file system must support open file description "
        "locks; move the store to one that does)\n"
    ), said.stderr
