"""`ovs-mcast segment`, also `python -m ovs_mcast.segment`: one segment more or less.

For hooks, of which a hypervisor runs one for each network that is plugged, two at once: each names
its own segments, and takes no other's away.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Annotated

import typer

from ..cli import app as cli
from ..cli import output
from ..cli.overlay_options import SHAPE, default_name, parse_segment
from ..cli.report import Report, summary
from ..cli.run import Failure, run
from ..core.incremental import check_fit
from ..core.model import Overlay, Segment
from ..core.status import Status
from ..errors import ApplyError, ConfigurationError
from ..host.connect import check_remote, connect
from ..host.host import Host

# Returns the host of an OVSDB, the local one for None.
OpenHost = Callable[[str | None], Host]
_ARGUMENT = "SEGMENT"

Name = Annotated[
    str | None, typer.Option(help="Name of the overlay.  [default: the only one on this host]")
]
Segments = Annotated[list[str], typer.Argument(metavar=f"{SHAPE}…", help="The segments.")]
Vnis = Annotated[list[int], typer.Argument(metavar="VNI…", help="The segments, by VNI.")]
Verbose = Annotated[bool, typer.Option("-v", "--verbose", help="Print every change.")]


class Commands:
    """The commands, on a host that ``open_host`` returns, after a check of the privilege."""

    def __init__(self, open_host: OpenHost, check_privilege: Callable[[], None]) -> None:
        self._open_host, self._check_privilege = open_host, check_privilege

    def add(
        self,
        segments: Segments,
        name: Name = None,
        db: output.Database = None,
        json_: output.Json = False,
        verbose: Verbose = False,
    ) -> None:
        """Let the overlay on this host have these segments; all others stay.

        A segment that is there changes nothing, one with another VLAN or group is changed. Without
        a group a segment takes one from the overlay's pool. Exit status and JSON as of `setup`.
        """

        def act(host: Host) -> Iterator[Status]:
            wanted = [_segment(text) for text in segments]
            check_fit(host.overlay(name), wanted, _ARGUMENT)
            yield from (host.add(segment, name=name) for segment in wanted)

        self._change("segment add", name, db, act, Report("segment add", json_, verbose))

    def remove(
        self,
        vnis: Vnis,
        name: Name = None,
        db: output.Database = None,
        json_: output.Json = False,
        verbose: Verbose = False,
    ) -> None:
        """Remove these segments from the overlay on this host; all others stay.

        A segment that is not there changes nothing. Exit status and JSON as of `setup`.
        """

        def act(host: Host) -> Iterator[Status]:
            there = {segment.vni for segment in host.overlay(name).segments}
            for vni in dict.fromkeys(vnis):
                if vni in there:
                    yield from _removed(host, vni, name)

        self._change("segment remove", name, db, act, Report("segment remove", json_, verbose))

    def list_(
        self, name: Name = None, db: output.Database = None, json_: output.Json = False
    ) -> None:
        """List the segments that the overlay on this host is to have.

        Whether they are carried is what `status` shows. Exit status: 0; 2 there is no such overlay;
        5 Open vSwitch or the privilege is missing.
        """

        def act() -> int:
            check_remote(db, "--db")
            with self._open_host(db) as host:
                overlay = host.overlay(name)
            if json_:
                output.write_json(_document(overlay))
            for segment in () if json_ else overlay.segments:
                output.write_line(f"{segment.vni},vlan={segment.vlan},group={segment.flood_group}")
            return 0

        run("segment list", act)

    def _change(
        self,
        command: str,
        name: str | None,
        db: str | None,
        act: Callable[[Host], Iterable[Status]],
        report: Report,
    ) -> None:
        """Make the changes one after the other; report them as one run."""
        cli.log_to_stderr(report.verbose)
        made = _Made(Status(name or default_name(), verified=True))

        def changes() -> int:
            check_remote(db, "--db")
            self._check_privilege()
            with self._open_host(db) as host:
                if name is None:
                    made.status = replace(made.status, overlay=host.overlay().name)
                made.take(act(host))
            report.status(made.status, summary(made.status))
            return 0

        def failed(failure: Failure) -> None:
            report.failed(made.status.overlay, failure, made.status.changes)

        run(command, changes, interrupted=ApplyError.exit_status, report=failed)


@dataclass(slots=True)
class _Made:
    """What was done so far, as the status of one run."""

    status: Status

    def take(self, further: Iterable[Status]) -> None:
        """Take further ones in. ApplyError for what is refused after a change was made."""
        try:
            for one in further:
                before = self.status
                self.status = replace(
                    one,
                    changes=(*before.changes, *one.changes),
                    verified=before.verified and one.verified,
                    segments={**before.segments, **one.segments},
                    problems=tuple(dict.fromkeys((*before.problems, *one.problems))),
                )
        except ConfigurationError as refused:
            if not self.status.changed:
                raise
            raise ApplyError(str(refused)) from None


def _segment(text: str) -> Segment:
    try:
        return Segment(**parse_segment(text, _ARGUMENT))  # type: ignore[arg-type]
    except ConfigurationError as error:
        if error.field == _ARGUMENT:
            raise
        raise ConfigurationError(f"{text!r}: {error}", field=_ARGUMENT) from None


def _removed(host: Host, vni: int, name: str | None) -> Iterator[Status]:
    """Remove a segment; nothing where another process has just done so."""
    try:
        yield host.remove(vni, name=name)
    except ConfigurationError as error:
        if error.field != "vni":
            raise


def _document(overlay: Overlay) -> dict[str, object]:
    segments = {
        str(one.vni): {"vlan": one.vlan, "group": str(one.flood_group)} for one in overlay.segments
    }
    return {"overlay": overlay.name, "segments": segments}


def application(
    open_host: OpenHost = connect, check_privilege: Callable[[], None] = cli.require_net_admin
) -> typer.Typer:
    """Return the commands as one application."""
    commands = Commands(open_host, check_privilege)
    app = cli.application("One segment more or less, of an overlay on this host.")
    cli.add_command(app, commands.add, "add", schema=_setup_schema)
    cli.add_command(app, commands.remove, "remove", schema=_setup_schema)
    cli.add_command(app, commands.list_, "list", schema=_list_schema)
    return app


def _setup_schema() -> object:
    from ..core import schemas  # noqa: PLC0415 - pydantic builds a schema only if asked for one

    return schemas.setup()


def _list_schema() -> object:
    from ..core import schemas  # noqa: PLC0415

    return schemas.segments()


def main() -> None:
    """Run `python -m ovs_mcast.segment`."""
    application()(prog_name="python -m ovs_mcast.segment")
