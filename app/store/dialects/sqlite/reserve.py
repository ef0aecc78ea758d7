"""Room kept free beside the database, so that on a full disk all goes on but what adds to it."""

import errno
import os
import sqlite3
import time
from contextlib import suppress
from pathlib import Path

from ....domain.errors import InsufficientStorage
from ....observability.logging import get_logger
from ..base import DatabaseUnusable
from .connection import LOG_PAGES

_TRY_AGAIN_SECONDS = 1.0
_FULL = 13
_IO_ERROR = 10
_PROBE_BYTES = 64 * 1024
_PAGE_BYTES = 4096
_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT})
_CANNOT_ALLOCATE = frozenset({errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL})
_ZEROS = bytes(64 * 1024)

_log = get_logger()


class Reserve:
    """A file of allocated blocks, given up when the disk is full and held again once there is room.

    While it is given up nothing may add jobs; what it left is for acknowledgements, claims, leases and prunes, and for
    checkpoints: what the log holds beyond the file's end must fit in, so that the log can begin anew. Belongs to the
    writer's thread.
    """

    def __init__(self, database: Path, connection: sqlite3.Connection, size: int) -> None:
        """Hold ``size`` bytes, none for 0. Raises DatabaseUnusable when there can be no file."""
        self._database = database
        self._connection = connection
        self._size = self._base = size
        self._margin = size // 4
        self._allocated = 0
        self._unchecked_bytes = 0
        self._tried_at = time.monotonic()
        self._is_spent = False
        self._descriptor = -1
        if size:
            path = database.with_name(database.name + ".reserve")
            try:
                self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            except OSError as error:
                raise DatabaseUnusable(f"cannot use {path}: {(error.strerror or str(error)).lower()}") from error
            # What a server before this one held is taken over; else jobs must have room beside it.
            held = os.fstat(self._descriptor).st_size >= size
            if self._allocate(size if held else size + self._margin):
                os.ftruncate(self._descriptor, size)
                self._hold(size)
            else:
                self._give_up()

    def close(self) -> None:
        """Close the file; it stays, and keeps the room."""
        if self._size:
            os.close(self._descriptor)

    def admits_additions(self) -> bool:
        """Return whether jobs may be added. On a full disk it looks for room, each second at most."""
        if self._is_spent and time.monotonic() >= self._tried_at + _TRY_AGAIN_SECONDS:
            self._try_again()
        elif self._allocated > self._base and self._growth() <= self._margin:
            self._allocate(self._base)
        return not self._is_spent

    def cover(self, added_bytes: int) -> None:
        """Hold as much more as the next checkpoint will add to the file, before the commit.

        It asks the file only each time about a quarter of the reserve was added. Raises InsufficientStorage.
        """
        self._unchecked_bytes += added_bytes
        if self._unchecked_bytes < self._margin or not self._size:
            return
        self._unchecked_bytes = 0
        growth = self._growth()
        if self._base < self._size and self._allocate(self._size + self._margin + growth):
            self._hold(self._size)
        if not self._allocate(self._base + (growth if growth > self._margin else 0)):
            raise InsufficientStorage("the reserve would not cover it")

    def spend(self, error: Exception) -> bool:
        """Make what room there is if the error is that of a full disk; return whether there was any.

        The reserve is given up, and the log is cut.
        """
        if not self._size or not self.is_full(error):
            return False
        was_spent = self._is_spent
        return self._give_up() or not was_spent

    def is_full(self, error: Exception) -> bool:
        """Return whether it was for want of room that a write failed."""
        if isinstance(error, InsufficientStorage):
            return True
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        # A full disk or quota is an I/O error where the system tells of it late: at an fsync, or for the log's index.
        return code == _FULL or (code == _IO_ERROR and bool(self._size) and not self._has_room())

    def _give_up(self) -> bool:
        if not self._is_spent:
            _log.warning("storage.filled", reserve_bytes=self._base)
            self._tried_at = time.monotonic()
            self._bound_log(self._margin)
        self._is_spent = True
        with suppress(OSError):
            os.ftruncate(self._descriptor, 0)
            # The blocks are free only once the file system has noted it.
            os.fsync(self._descriptor)
        self._allocated = 0
        has_made_room = self._cut_log()
        # Half is kept for the next such moment: a log as long as the other half can be cut then, all new as it may be.
        self._allocate(self._base // 2)
        return has_made_room

    def _try_again(self) -> None:
        self._tried_at = time.monotonic()
        self._cut_log()
        if self._allocate(self._size + self._margin):
            self._hold(self._size)
        elif self._free_bytes() >= self._margin and self._allocate(self._size // 2 + self._margin):
            # What was pruned leaves room in the file, not on the disk: jobs fit in, and the log needs the other half.
            self._hold(self._size // 2)
        else:
            return
        self._is_spent = False
        _log.info("storage.freed", reserve_bytes=self._base)

    def _hold(self, size: int) -> None:
        """Hold so much from now on, of which more is allocated, and give the log what room there is beside it."""
        self._base = size
        self._allocate(size)
        self._bound_log(size // 2)

    def _bound_log(self, size: int) -> None:
        """Let the log begin anew when it has so many bytes, and at the usual length at the latest."""
        self._connection.execute(f"PRAGMA wal_autocheckpoint = {max(1, min(size // _PAGE_BYTES, LOG_PAGES))}")

    def _allocate(self, size: int) -> bool:
        """Make the file exactly so long, or leave it as it is; return whether there was room."""
        try:
            if size > self._allocated:
                _take_room(self._descriptor, self._allocated, size - self._allocated)
            if size < self._allocated:
                os.ftruncate(self._descriptor, size)
        except OSError:
            with suppress(OSError):
                os.ftruncate(self._descriptor, self._allocated)
            return False
        self._allocated = size
        return True

    def _has_room(self) -> bool:
        try:
            _take_room(self._descriptor, self._allocated, _PROBE_BYTES)
        except OSError as error:
            return error.errno not in _NO_ROOM
        finally:
            with suppress(OSError):
                os.ftruncate(self._descriptor, self._allocated)
        return True

    def _growth(self) -> int:
        """Return by how much the next checkpoint will lengthen the file, the running transaction included."""
        return max(0, self._number("page_count") * self._number("page_size") - self._database.stat().st_size)

    def _free_bytes(self) -> int:
        return self._number("freelist_count") * self._number("page_size")

    def _number(self, pragma: str) -> int:
        (number,) = self._connection.execute(f"PRAGMA {pragma}").fetchone()
        return int(number)

    def _cut_log(self) -> bool:
        """Bring the log into the database and cut it, unless a reader is in the way or there is no room for that."""
        log = self._database.with_name(self._database.name + "-wal")
        waited = self._number("busy_timeout")
        try:
            before = log.stat().st_size
            self._connection.execute("PRAGMA busy_timeout = 0")
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
            return log.stat().st_size < before
        except (OSError, sqlite3.Error):
            return False
        finally:
            self._connection.execute(f"PRAGMA busy_timeout = {waited}")


def _take_room(descriptor: int, offset: int, length: int) -> None:
    """Take blocks of the disk for a file; where the system has no call for it, by writing. Raises OSError."""
    if hasattr(os, "posix_fallocate"):
        try:
            os.posix_fallocate(descriptor, offset, length)
        except OSError as error:
            if error.errno not in _CANNOT_ALLOCATE:
                raise
        else:
            return
    end = offset + length
    while offset < end:
        offset += os.pwrite(descriptor, _ZEROS[: end - offset], offset)
