"""Files that others may have a hand in: a read ends, a write follows no link."""

from __future__ import annotations

import os
import stat
import time
from pathlib import Path
from threading import Timer

import pytest

from ovs_mcast import files


def test_a_file_is_read_up_to_its_limit(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * 100)
    assert files.read(path, 100) == b"x" * 100
    with pytest.raises(OSError, match="larger than 99 bytes"):
        files.read(path, 99)


@pytest.mark.parametrize(
    ("path", "what"),
    [("/dev/zero", "not a file"), ("/dev/full", "not a file"), ("/", "Is a directory")],
)
def test_what_is_no_file_is_not_read(path: str, what: str) -> None:
    with pytest.raises(OSError, match=what):
        files.read(Path(path), 100)


def test_a_pipe_is_read_to_its_end_and_not_waited_for(tmp_path: Path) -> None:
    """As the shell gives for `<(…)`; without a writer it is empty, with a silent one it ends."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    assert files.read(path, 100) == b""
    writer = os.open(path, os.O_RDWR)
    began = time.monotonic()
    with pytest.raises(OSError, match="nobody writes"):
        files.read(path, 100, seconds=0.05)
    assert time.monotonic() - began < 60

    def write() -> None:
        os.write(writer, b"text")
        os.close(writer)

    Timer(0.05, write).start()
    assert files.read(path, 100, seconds=60) == b"text"


def test_a_link_is_followed_where_the_caller_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("text")
    (tmp_path / "link").symlink_to("file")
    assert files.read(tmp_path / "link", 100) == b"text"
    with pytest.raises(OSError, match="symbolic links"):
        files.read(tmp_path / "link", 100, follow=False)


def test_a_write_replaces_links_and_follows_none(tmp_path: Path) -> None:
    """Neither the link at the name nor the one where the new file is made first."""
    victim = tmp_path / "victim"
    victim.write_text("precious")
    path = tmp_path / "overlay.keeper"
    path.symlink_to(victim)
    path.with_suffix(".new").symlink_to(victim)
    files.replace(path, "name")
    assert victim.read_text() == "precious"
    assert not path.is_symlink()
    assert path.read_text() == "name"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert sorted(one.name for one in tmp_path.iterdir()) == ["overlay.keeper", "victim"]
