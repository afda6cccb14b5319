"""Changes of the configuration file are noticed however it is written."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ovs_mcast.adapters.inotify import Inotify
from ovs_mcast.agent.config_file import ConfigFile
from ovs_mcast.errors import ConfigurationError

ONE = "underlay: {device: eth0}\nsegments: [{vni: 1, group: 239.0.0.1}]\n"
TWO = "underlay: {device: eth0}\nsegments: [{vni: 2, group: 239.0.0.1}]\n"


def noticed(config: ConfigFile) -> bool:
    """Return True if a change is reported, asked for as by the loop."""
    changed = config.changed()
    config.watch()
    return changed


@pytest.fixture
def written(tmp_path: Path) -> Path:
    path = tmp_path / "overlay.yml"
    path.write_text(ONE)
    return path


def started(path: Path) -> ConfigFile:
    config = ConfigFile(path)
    config.read()
    return config


def test_written_in_place(written: Path) -> None:
    """Noticed once, when it is closed, not at each write."""
    with started(written) as config:
        with written.open("w") as file:
            file.write(TWO)
            file.flush()
            assert not noticed(config)
        assert noticed(config)
        assert config.read().segments[0].vni == 2
        assert not noticed(config)


def test_renamed_over(written: Path) -> None:
    """As editors do it; another file of the directory is another file."""
    with started(written) as config:
        other = written.with_suffix(".tmp")
        other.write_text(TWO)
        assert not noticed(config)
        other.rename(written)
        assert noticed(config)


def test_a_config_map_is_swapped(tmp_path: Path) -> None:
    """overlay.yml → ..data/overlay.yml, ..data → ..1, which is replaced by a link to ..2."""
    for name, text in (("..1", ONE), ("..2", TWO)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "overlay.yml").write_text(text)
    (tmp_path / "..data").symlink_to("..1")
    (tmp_path / "overlay.yml").symlink_to("..data/overlay.yml")
    with started(tmp_path / "overlay.yml") as config:
        assert config.directories() == {tmp_path, tmp_path / "..1", tmp_path / "..data"}
        (tmp_path / "..data_tmp").symlink_to("..2")
        assert not noticed(config)
        os.rename(tmp_path / "..data_tmp", tmp_path / "..data")
        assert noticed(config)
        assert config.read().segments[0].vni == 2
        (tmp_path / "..2" / "overlay.yml").write_text(ONE)
        assert noticed(config)


def test_gone_is_not_another(written: Path) -> None:
    """A missing file leaves the last one in force; once it is back, it is read again."""
    with started(written) as config:
        written.unlink()
        assert not noticed(config)
        with pytest.raises(ConfigurationError, match="No such file"):
            config.read()
        with written.open("w") as file:
            file.write("segm")
            file.flush()
            assert not noticed(config), "half of it is none"
            file.write("ents: []\n")
        assert noticed(config)


def test_links_without_end(tmp_path: Path) -> None:
    """A link to itself is an invalid file, and watched all the same."""
    (tmp_path / "overlay.yml").symlink_to("overlay.yml")
    with ConfigFile(tmp_path / "overlay.yml") as config:
        with pytest.raises(ConfigurationError):
            config.read()
        assert config.directories() == {tmp_path}


def test_a_directory_that_comes_later(tmp_path: Path) -> None:
    """The watch of a missing directory is left out until the directory exists."""
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
