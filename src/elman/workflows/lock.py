"""One trainer a run folder: a lock that the system drops when its process ends, however it ends."""

from __future__ import annotations

import errno
import os
import platform
import weakref
from pathlib import Path

from elman.errors import RunFolderError

try:
    import fcntl
except ImportError:  # not POSIX
    fcntl = None  # type: ignore[assignment]

LOCK_FILE = ".lock"


class FolderLock:
    """Holds the folder until :meth:`release`; ``note`` says so where the file system has no locks.

    The lock is an advisory one (flock) on a file that names the process. A file that a killed process left behind is
    not locked and holds nobody up. Raises RunFolderError, with the process, where another one holds the folder.
    """

    def __init__(self, folder: Path):
        self.note: str | None = None
        self._path = folder / LOCK_FILE
        self._file = self._acquire(folder)
        self._close = weakref.finalize(self, os.close, self._file)

    def release(self) -> None:
        """Let others have the folder; a second call does nothing."""
        if self._close.alive:
            self._path.unlink(missing_ok=True)
            self._close()

    def _acquire(self, folder: Path) -> int:
        while True:
            file = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o666)
            try:
                self._lock(file, folder)
                if os.fstat(file).st_nlink > 0:  # else its holder removed it after it was opened here
                    os.ftruncate(file, 0)
                    os.write(file, f"{os.getpid()} {platform.node()}".encode())
                    return file
            except BaseException:
                os.close(file)
                raise
            os.close(file)

    def _lock(self, file: int, folder: Path) -> None:
        try:
            if fcntl is None:
                raise OSError(errno.ENOSYS, "no flock")
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(file, 1000).decode("utf-8", "replace")
            raise RunFolderError(f"{folder} is being trained by {_describe(holder)}") from None
        except OSError as error:
            if error.errno not in (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP):
                raise
            self.note = f"{folder} cannot be locked here: see to it that no second process trains in it"


def _describe(holder: str) -> str:
    number, _, node = holder.partition(" ")
    if not number:
        return "another process; wait for it to end"
    if node != platform.node():
        return f"process {number} on {node}; wait for it, or end it there"
    if number == str(os.getpid()):
        return f"this process itself ({number}); end that training first"
    return f"process {number}; wait for it, or end it (kill {number}: it saves first)"
