"""The choice of an overlay on a command line: a file, or options of the same names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from ..core.model import Overlay
from ..errors import ConfigurationError

_DIGITS = 20  # more than any number of the configuration has

# libyaml, where PyYAML has it: thousands of segments in a tenth of the time.
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True, slots=True)
class OverlayOptions:
    """What the options of a command say of an overlay; None where they say nothing."""

    config: Path | None = None
    name: str | None = None
    bridge: str | None = None
    tunnel_bridge: str | None = None
    datapath: str | None = None
    membership: str | None = None
    underlay: str | None = None
    vtep: str | None = None
    udp_port: int | None = None
    ttl: int | None = None
    groups: str | None = None
    aging: int | None = None
    learned_limit: int | None = None
    segments: Sequence[str] = ()

    def overlay(self) -> Overlay:
        """The overlay that is chosen; ConfigurationError names the key or option at fault."""
        if self.config is not None:
            return self._from_file(self.config)
        if self.underlay is None:
            raise ConfigurationError("name the device that carries the tunnels", field="--underlay")
        if not self.segments:
            raise ConfigurationError("name at least one segment", field="--segment")
        return Overlay.from_mapping(
            {
                **self._given("name", "bridge", "tunnel_bridge", "datapath", "membership"),
                **self._given("groups", "aging", "learned_limit"),
                "underlay": {
                    "device": self.underlay,
                    **self._given("vtep", "udp_port", "ttl"),
                },
                "segments": [parse_segment(text) for text in self.segments],
            }
        )

    def overlay_name(self) -> str:
        """The name alone, which is all that `--teardown` needs."""
        if self.config is not None:
            return self._from_file(self.config).name
        return self.name or "default"

    def _given(self, *names: str) -> dict[str, object]:
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}

    def _from_file(self, path: Path) -> Overlay:
        for name in self.__dataclass_fields__:
            if name != "config" and getattr(self, name) not in (None, ()):
                option = "--" + name.rstrip("s" if name == "segments" else "").replace("_", "-")
                raise ConfigurationError(f"--config says all: leave {option} out", field=option)
        return Overlay.from_mapping(read_file(path))


def read_file(path: Path) -> Mapping[str, object]:
    """A configuration file, YAML or JSON, as a mapping; ConfigurationError if it is neither."""
    try:
        data = yaml.load(path.read_text(), Loader=_LOADER)
    except OSError as error:
        raise ConfigurationError(f"{path}: {error.strerror}", field="--config") from None
    except UnicodeDecodeError:
        raise ConfigurationError(f"{path} is not text", field="--config") from None
    except ValueError as error:  # a date that is none, a number without end
        raise ConfigurationError(f"{path}: {error}", field="--config") from None
    except yaml.YAMLError as error:
        where = getattr(error, "problem_mark", None)
        line = f", line {where.line + 1}" if where else ""
        reason = getattr(error, "problem", None) or "it cannot be read"
        raise ConfigurationError(f"{path}{line}: {reason}", field="--config") from None
    if not isinstance(data, Mapping):
        raise ConfigurationError(f"{path} is not a mapping of names to values", field="--config")
    return data


def parse_segment(text: str) -> dict[str, object]:
    """`VNI[,group=G][,vlan=V]` as the mapping that a configuration file would have."""
    parts = [part.strip() for part in text.split(",")]
    found: dict[str, object] = {"vni": _number(parts[0], text)}
    for part in parts[1:]:
        key, equals, value = part.partition("=")
        if not equals or key not in {"group", "vlan"} or key in found:
            raise ConfigurationError(
                f"{text!r} is not VNI[,group=G][,vlan=V]: {part!r}", field="--segment"
            )
        found[key] = _number(value, text) if key == "vlan" else value
    return found


def _number(digits: str, text: str) -> int:
    if not (digits.isascii() and digits.isdigit() and len(digits) <= _DIGITS):
        raise ConfigurationError(
            f"{text!r} is not VNI[,group=G][,vlan=V]: {digits!r} is not a number", field="--segment"
        )
    return int(digits)
