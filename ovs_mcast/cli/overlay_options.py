"""The options that choose an overlay: a configuration file, or options of the same names."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import wraps
from inspect import Parameter, signature
from pathlib import Path
from typing import Annotated, Any, get_args, get_type_hints

import typer

from ..core.fields import Datapath, InnerVlan, Method
from ..core.model import Overlay, Underlay
from ..errors import ConfigurationError
from .app import redescribe
from .yaml_file import read_file

_DIGITS = 20  # more than any number of the configuration has
_REPEATED = {"segments": "--segment", "peers": "--peer"}
SHAPE = "VNI[,group=G][,vlan=V]"


def _option(
    help_: str,
    *,
    default: str = "",
    of: type[Overlay | Underlay] = Overlay,
    name: str = "",
    values: object = None,
) -> Any:
    """Return an option; the default shown is that of the field ``name`` of the model."""
    shown = default or (str(of.model_fields[name].default) if name else "")
    text = f"{help_}  [default: {shown}]".strip() if shown else help_
    return typer.Option(help=text, metavar="|".join(get_args(values)) or None)


@dataclass(frozen=True, slots=True)
class OverlayOptions:
    """The options given on a command line; None where one is left out.

    `takes_overlay` gives all of them to a command, as they are annotated here.
    """

    config: Annotated[Path | None, typer.Option(help="Configuration, YAML or JSON.")] = None
    underlay: Annotated[str | None, _option("Device that carries the tunnels.")] = None
    segments: Annotated[
        list[str] | None,
        typer.Option("--segment", metavar=SHAPE, help="A segment. Repeat for more."),
    ] = None
    name: Annotated[str | None, _option("Name of the overlay.", name="name")] = None
    vtep: Annotated[str | None, _option("Outer source.", default="the device's first address")] = (
        None
    )
    groups: Annotated[str | None, _option("Pool of groups, such as 239.1.0.0/20.")] = None
    bridge: Annotated[str | None, _option("Bridge of the workloads.", name="bridge")] = None
    tunnel_bridge: Annotated[str | None, _option("Bridge of the flows.", name="tunnel_bridge")] = (
        None
    )
    udp_port: Annotated[int | None, _option("VXLAN port.", of=Underlay, name="udp_port")] = None
    ttl: Annotated[int | None, _option("Outer TTL.", of=Underlay, name="ttl")] = None
    tos: Annotated[str | None, _option("Outer TOS: 0 to 252, or inherit.")] = None
    df: Annotated[bool | None, typer.Option("--df/--no-df", help="Do not fragment on the way.")] = (
        None
    )
    checksum: Annotated[
        bool | None, typer.Option("--checksum/--no-checksum", help="UDP checksum.")
    ] = None
    mark: Annotated[int | None, _option("fwmark of the outer packets.")] = None
    datapath: Annotated[str | None, _option("", name="datapath", values=Datapath)] = None
    membership: Annotated[str | None, _option("", name="membership", values=Method)] = None
    aging: Annotated[
        int | None, _option("Seconds until a silent MAC is forgotten.", name="aging")
    ] = None
    learned_limit: Annotated[
        int | None, _option("MACs learned per segment.", name="learned_limit")
    ] = None
    guard: Annotated[
        bool | None,
        typer.Option("--guard/--no-guard", help="Drop workloads' VXLAN packets to this host."),
    ] = None
    inner_vlan: Annotated[
        str | None,
        _option("Frames with a VLAN tag in their segment.", name="inner_vlan", values=InnerVlan),
    ] = None
    peers: Annotated[
        list[str] | None,
        typer.Option("--peer", metavar="VTEP|PREFIX", help="A peer. Repeat for more."),
    ] = None
    only_peers: Annotated[
        bool | None,
        typer.Option("--only-peers/--all-peers", help="Drop packets of all but the peers."),
    ] = None

    def overlay(self) -> Overlay:
        """Return the overlay. ConfigurationError names the key or option at fault."""
        if self.config is not None:
            return self._from_file(self.config)
        if self.underlay is None:
            raise ConfigurationError("name the device that carries the tunnels", field="--underlay")
        if not self.segments:
            raise ConfigurationError("name at least one segment", field="--segment")
        return Overlay.from_mapping(
            {
                **self._given("name", "bridge", "tunnel_bridge", "datapath", "membership"),
                **self._given("groups", "aging", "learned_limit", "guard"),
                **self._given("inner_vlan", "peers", "only_peers"),
                "underlay": {
                    "device": self.underlay,
                    **self._given("vtep", "udp_port", "ttl", "df", "checksum", "mark"),
                    **({} if self.tos is None else {"tos": _number_or_word(self.tos)}),
                },
                "segments": [parse_segment(text) for text in self.segments],
            }
        )

    def overlay_name(self) -> str:
        """Return the overlay's name, all that `--teardown` needs."""
        if self.config is not None:
            return self._from_file(self.config).name
        return self.name or default_name()

    def _given(self, *names: str) -> dict[str, object]:
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}

    def _from_file(self, path: Path) -> Overlay:
        for name in self.__dataclass_fields__:
            if name != "config" and getattr(self, name) not in (None, ()):
                option = _REPEATED.get(name, "--" + name.replace("_", "-"))
                raise ConfigurationError(
                    f"not allowed with --config: leave {option} out", field=option
                )
        return Overlay.from_mapping(read_file(path))


def default_name() -> str:
    """Return the default name of an overlay."""
    return str(Overlay.model_fields["name"].default)


def takes_overlay(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of an overlay in place of its first parameter."""
    hints = get_type_hints(OverlayOptions, include_extras=True)
    names = [field.name for field in fields(OverlayOptions)]
    chosen = [
        Parameter(one, Parameter.KEYWORD_ONLY, default=None, annotation=hints[one]) for one in names
    ]
    _, *own = signature(command, eval_str=True).parameters.values()

    @wraps(command)
    def called(**given: Any) -> None:
        options = OverlayOptions(**{name: given.pop(name) for name in names})
        command(options, **given)

    return redescribe(called, [*chosen, *own])


def parse_segment(text: str, field: str = "--segment") -> dict[str, object]:
    """Return `VNI[,group=G][,vlan=V]` as the mapping that a configuration file has.

    ConfigurationError names ``field``, the option or argument that the text is of.
    """
    parts = [part.strip() for part in text.split(",")]
    found: dict[str, object] = {"vni": _number(parts[0], text, field)}
    for part in parts[1:]:
        key, equals, value = part.partition("=")
        if not equals or key not in {"group", "vlan"} or key in found:
            raise ConfigurationError(f"{text!r} is not {SHAPE}: {part!r}", field=field)
        found[key] = _number(value, text, field) if key == "vlan" else value
    return found


def _number_or_word(text: str) -> object:
    """Return a number, also in hexadecimal as in YAML and in iproute2, or the text itself."""
    try:
        return int(text, 0)
    except ValueError:
        return text


def _number(digits: str, text: str, field: str) -> int:
    if not (digits.isascii() and digits.isdigit() and len(digits) <= _DIGITS):
        raise ConfigurationError(
            f"{text!r} is not {SHAPE}: {digits!r} is not a number", field=field
        )
    return int(digits)
