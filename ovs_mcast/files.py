"""Files of paths that somebody else may have a hand in: read and written so that none can harm.

A read ends: whatever the path is by now, a link, a FIFO or a device without an end, it takes at
most so many bytes and seconds. A write follows no link, and touches no file that is there.
"""

from __future__ import annotations

import errno
import os
import select
import stat
import time
from contextlib import suppress
from pathlib import Path

_PART = 1 << 16


def read(path: Path, most: int, *, seconds: float = 1.0, follow: bool = True) -> bytes:
    """Return the content of a file or pipe; OSError if it is neither, too large or without an end.

    ``most`` is in bytes. Without ``follow``, a symbolic link is refused.
    """
    end = time.monotonic() + seconds
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | (0 if follow else os.O_NOFOLLOW)
    descriptor = os.open(path, flags)
    try:
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISDIR(mode):
            raise OSError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        if not (stat.S_ISREG(mode) or stat.S_ISFIFO(mode)):
            raise OSError(errno.EINVAL, "not a file", str(path))
        found = bytearray()
        while part := _part(descriptor, end):
            found += part
            if len(found) > most:
                raise OSError(errno.EFBIG, f"larger than {most:,} bytes", str(path))
        return bytes(found)
    finally:
        os.close(descriptor)


def _part(descriptor: int, end: float) -> bytes:
    while True:
        try:
            return os.read(descriptor, _PART)
        except BlockingIOError:
            left = end - time.monotonic()
            if left <= 0 or not select.select([descriptor], [], [], left)[0]:
                raise OSError(errno.ETIMEDOUT, "nobody writes to the pipe") from None


def replace(path: Path, text: str) -> None:
    """Write a file of mode 0600 under another name, then rename it; OSError if that is in the way.

    Other users may write to the directory: a link at either name is replaced, and not followed.
    """
    new = path.with_suffix(".new")
    with suppress(FileNotFoundError):
        new.unlink()
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(new, flags, 0o600)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)
    new.rename(path)
