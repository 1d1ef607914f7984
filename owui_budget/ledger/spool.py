"""Usage that could not be written: one append-only file of JSON lines per process, replayed when the ledger answers.

A file is locked by its process for as long as it lives, so the next start can tell the files of dead processes and take
them over. Every line is on disk before `append` returns. Replaying a line twice changes nothing, which keeps this
simple: a file is emptied only when all of it has been written to the ledger.
"""

import asyncio
import fcntl
import json
import logging
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from owui_budget.errors import FinalError
from owui_budget.ledger.protocol import Ledger, OperationRejectedError, Settlement
from owui_budget.ledger.spool_format import Record, parse_record, print_record

_SUFFIX: Final = ".jsonl"
_AT_ONCE: Final = 128

_log = logging.getLogger(__name__)


class SpoolError(FinalError):
    """The spool cannot be written or read: usage would be lost, so admission must stop."""


class Spool:
    """The spool file of this process."""

    def __init__(self, folder: Path, process_id: str) -> None:
        """Take the folder and this process' id; nothing is opened yet."""
        self._path = folder / f"usage-{process_id}{_SUFFIX}"
        self._file: int | None = None
        self._lock = threading.Lock()
        self._depth = 0
        self._done = 0

    def adopt(self) -> int:
        """Open this process' file and take over those of dead processes; return how many records wait.

        Raises:
            SpoolError: the folder cannot be used.

        """
        with self._lock, self._named("opened"):
            self._open()
            for path in sorted(self._path.parent.glob(f"usage-*{_SUFFIX}")):
                if path != self._path:
                    self._take_over(path)
        return self._depth

    def append(self, record: Record) -> None:
        """Keep `record`; it is on disk when this returns.

        Raises:
            SpoolError: it could not be kept.

        """
        line = json.dumps(print_record(record)).encode() + b"\n"
        with self._lock, self._named("written"):
            self._append(self._open(), line)
            self._depth += 1

    def depth(self) -> int:
        """Return how many records wait."""
        return self._depth

    async def replay(self, ledger: Ledger) -> int:
        """Write what waits to the ledger, oldest first, each once; return how many records were written.

        Records that the ledger refuses, and lines that cannot be read, go to files beside the spool with the reason.

        Raises:
            LedgerUnavailableError: the ledger cannot be reached; what is left stays.
            SpoolError: the spool cannot be read or emptied.

        """
        lines = await asyncio.to_thread(self._waiting)
        written = 0
        for start in range(0, len(lines), _AT_ONCE):
            chunk = lines[start : start + _AT_ONCE]
            # Submitted in order, the records of a chunk share transactions; the ledger keeps their order.
            results = await asyncio.gather(*(self._write(ledger, line) for line in chunk), return_exceptions=True)
            failed = next((each for each in results if isinstance(each, BaseException)), None)
            if failed is not None:
                raise failed
            written += len(chunk)
            await asyncio.to_thread(self._finish, chunk)
        return written

    def close(self) -> None:
        """Let go of the file; an empty one is removed, any other waits for the next start."""
        with self._lock, self._named("closed"):
            if self._file is None:
                return
            if self._depth == 0:
                self._path.unlink(missing_ok=True)
            os.close(self._file)
            self._file = None

    async def _write(self, ledger: Ledger, line: bytes) -> None:
        try:
            record = parse_record(line)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            await asyncio.to_thread(self._set_aside, line, "corrupt", f"{type(error).__name__}: {error}")
            return
        try:
            if isinstance(record, Settlement):
                await ledger.settle(record)
            else:
                await ledger.release(record)
        except OperationRejectedError as error:
            await asyncio.to_thread(self._set_aside, line, "rejected", str(error))

    def _waiting(self) -> list[bytes]:
        with self._lock, self._named("read"):
            return list(_lines(self._open(), self._done))

    def _finish(self, lines: list[bytes]) -> None:
        """Step over `lines`; when nothing is left, empty the file."""
        with self._lock, self._named("emptied"):
            file = self._open()
            self._done += sum(len(line) for line in lines)
            self._depth -= len(lines)
            if self._done >= os.fstat(file).st_size:
                os.ftruncate(file, 0)
                os.fsync(file)
                self._done = self._depth = 0

    def _set_aside(self, line: bytes, why: str, reason: str) -> None:
        path = self._path.with_suffix(f".{why}")
        _log.error("a %s spool record is kept in %s: %s", why, path, reason)
        kept = json.dumps({"reason": reason, "line": line.decode(errors="backslashreplace").rstrip("\n")}) + "\n"
        with self._lock, self._named("set aside"), path.open("a", encoding="utf-8") as file:
            file.write(kept)
            file.flush()
            os.fsync(file.fileno())

    def _open(self) -> int:
        """Open and lock this process' file, unless a start that tidies up removed it in between: then once more."""
        while self._file is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            fcntl.flock(file, fcntl.LOCK_EX)
            if os.fstat(file).st_nlink == 0:
                os.close(file)
                continue
            _sync_folder(self._path.parent)
            self._file = file
            self._depth = sum(1 for _ in _lines(file, 0))
        return self._file

    def _take_over(self, path: Path) -> None:
        try:
            other = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return  # another start was faster
        try:
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
            lines = list(_lines(other, 0)) if os.fstat(other).st_nlink else []
            if lines:
                self._append(self._open(), b"".join(line if line.endswith(b"\n") else line + b"\n" for line in lines))
                self._depth += len(lines)
                _log.warning("took over %d spooled records of a process that ended: %s", len(lines), path.name)
            path.unlink(missing_ok=True)
        except BlockingIOError:
            pass  # its process is alive
        finally:
            os.close(other)

    def _append(self, file: int, content: bytes) -> None:
        size = os.fstat(file).st_size
        try:
            written = 0
            while written < len(content):
                written += os.write(file, content[written:])
            os.fsync(file)
        except OSError:
            os.ftruncate(file, size)  # half a line would spoil the next one
            raise

    def _named(self, what: str) -> "_Named":
        return _Named(self._path, what)


class _Named:
    """Turns an operating system's error into a SpoolError that names file, reason and consequence."""

    def __init__(self, path: Path, what: str) -> None:
        self._path = path
        self._what = what

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, OSError):
            msg = f"the spool {self._path} cannot be {self._what}: {error.strerror}; make room or mend its folder"
            raise SpoolError(msg) from error


def _lines(file: int, start: int) -> Iterator[bytes]:
    """Read whole lines from `start` on; a last one without its end (a torn write) comes as it is."""
    with os.fdopen(os.dup(file), "rb") as stream:
        stream.seek(start)
        yield from stream


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
