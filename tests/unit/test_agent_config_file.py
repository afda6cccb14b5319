"""The configuration file is found to have changed however it was written."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ovs_mcast.adapters.inotify import Inotify
from ovs_mcast.agent.config_file import Configuration
from ovs_mcast.errors import ConfigurationError

ONE = "underlay: {device: eth0}\nsegments: [{vni: 1, group: 239.0.0.1}]\n"
TWO = "underlay: {device: eth0}\nsegments: [{vni: 2, group: 239.0.0.1}]\n"


def heard(configuration: Configuration, files: Inotify) -> bool:
    events = [configuration.may_be(event) for event in files.read()]
    files.watch(configuration.directories())
    return any(events) and configuration.has_changed()


@pytest.fixture
def written(tmp_path: Path) -> Path:
    path = tmp_path / "overlay.yml"
    path.write_text(ONE)
    return path


def started(path: Path) -> tuple[Configuration, Inotify]:
    configuration, files = Configuration(path), Inotify()
    configuration.read()
    files.watch(configuration.directories())
    return configuration, files


def test_written_in_place(written: Path) -> None:
    """Heard once it is closed, not at each write, and once."""
    configuration, files = started(written)
    with files:
        with written.open("w") as file:
            file.write(TWO)
            file.flush()
            assert not heard(configuration, files)
        assert heard(configuration, files)
        assert configuration.read().segments[0].vni == 2
        assert not heard(configuration, files)


def test_renamed_over(written: Path) -> None:
    """As editors do it; another file of the directory is another file."""
    configuration, files = started(written)
    with files:
        other = written.with_suffix(".tmp")
        other.write_text(TWO)
        assert not heard(configuration, files)
        other.rename(written)
        assert heard(configuration, files)


def test_a_config_map_is_swapped(tmp_path: Path) -> None:
    """overlay.yml → ..data/overlay.yml, ..data → ..1, which is replaced by a link to ..2."""
    for name, text in (("..1", ONE), ("..2", TWO)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "overlay.yml").write_text(text)
    (tmp_path / "..data").symlink_to("..1")
    (tmp_path / "overlay.yml").symlink_to("..data/overlay.yml")
    configuration, files = started(tmp_path / "overlay.yml")
    assert configuration.directories() == {tmp_path, tmp_path / "..1"} | {tmp_path / "..data"}
    with files:
        (tmp_path / "..data_tmp").symlink_to("..2")
        assert not heard(configuration, files)
        os.rename(tmp_path / "..data_tmp", tmp_path / "..data")
        assert heard(configuration, files)
        assert configuration.read().segments[0].vni == 2
        (tmp_path / "..2" / "overlay.yml").write_text(ONE)
        assert heard(configuration, files)


def test_gone_is_not_another(written: Path) -> None:
    """What was read last is still wanted; once it is there again, it is read again."""
    configuration, files = started(written)
    with files:
        written.unlink()
        assert not heard(configuration, files)
        with pytest.raises(ConfigurationError, match="No such file"):
            configuration.read()
        with written.open("w") as file:
            file.write("segm")
            file.flush()
            assert not heard(configuration, files), "half of it is none"
            file.write("ents: []\n")
        assert heard(configuration, files)


def test_links_without_end(tmp_path: Path) -> None:
    """A link to itself is refused as a file, and watched all the same."""
    (tmp_path / "overlay.yml").symlink_to("overlay.yml")
    configuration = Configuration(tmp_path / "overlay.yml")
    with pytest.raises(ConfigurationError):
        configuration.read()
    assert configuration.directories() == {tmp_path}


def test_a_directory_that_comes_later(tmp_path: Path) -> None:
    """A watch that cannot be made is left out, and made when there is something to watch."""
    with Inotify() as files:
        late = tmp_path / "late"
        files.watch({late})
        late.mkdir()
        files.watch({late})
        (late / "x").write_text("")
        assert {event.name for event in files.read()} == {"x"}
        (late / "x").unlink()
        late.rmdir()
        assert "" in {event.name for event in files.read()}
        late.mkdir()
        files.watch({late})
        (late / "y").write_text("")
        assert "y" in {event.name for event in files.read()}
