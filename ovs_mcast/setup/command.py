"""The provisioning command: `python -m ovs_mcast.setup`, also `ovs-mcast setup`."""

from __future__ import annotations

import logging
import signal
from pathlib import Path
from typing import Annotated

import typer

from ..adapters.systemd import Notify
from ..cli import app as app_module
from ..cli import output
from ..cli.overlay_options import OverlayOptions
from ..core.changes import Change
from ..core.model import Overlay
from ..core.status import Status
from ..core.target import UNDECIDED, decides
from ..errors import ApplyError, OvsMcastError, VerifyError
from ..host.connect import check_remote, connect
from ..host.host import Host

LOG = logging.getLogger(__name__)

_DRY_RUN_FOUND_CHANGES = 4
_SHAPE = "VNI[,group=G][,vlan=V]"


def setup(
    config: Annotated[Path | None, typer.Option(help="Configuration, YAML or JSON.")] = None,
    underlay: Annotated[str | None, typer.Option(help="Device that carries the tunnels.")] = None,
    segment: Annotated[
        list[str] | None, typer.Option(metavar=_SHAPE, help="A segment; as often as wanted.")
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Name of the overlay.  [default: default]")
    ] = None,
    vtep: Annotated[
        str | None, typer.Option(help="Outer source.  [default: the device's first address]")
    ] = None,
    groups: Annotated[str | None, typer.Option(help="Pool of groups, as 239.1.0.0/20.")] = None,
    bridge: Annotated[
        str | None, typer.Option(help="Bridge of the workloads.  [default: br-int]")
    ] = None,
    tunnel_bridge: Annotated[
        str | None, typer.Option(help="Bridge of the flows.  [default: br-mcast]")
    ] = None,
    udp_port: Annotated[int | None, typer.Option(help="Of VXLAN.  [default: 4789]")] = None,
    ttl: Annotated[int | None, typer.Option(help="Outer TTL.  [default: 64]")] = None,
    datapath: Annotated[
        str | None, typer.Option(metavar="system|netdev", help="[default: system]")
    ] = None,
    membership: Annotated[
        str | None,
        typer.Option(metavar="auto|autojoin|repaired|peer|socket", help="[default: auto]"),
    ] = None,
    aging: Annotated[
        int | None, typer.Option(help="Seconds until a silent MAC is forgotten.  [default: 300]")
    ] = None,
    learned_limit: Annotated[
        int | None, typer.Option(help="MACs learned per segment.  [default: 1024]")
    ] = None,
    db: output.Database = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would change.")] = False,
    teardown: Annotated[bool, typer.Option("--teardown", help="Remove all that is ours.")] = False,
    hold: Annotated[
        bool, typer.Option("--hold", help="Stay, and hold in this process what sockets hold.")
    ] = False,
    json_: Annotated[bool, typer.Option("--json", help="Report as JSON on stdout.")] = False,
    verbose: Annotated[bool, typer.Option("-v", "--verbose", help="Say every change.")] = False,
) -> None:
    """Build, change or remove a multicast VXLAN overlay on this machine's Open vSwitch.

    Exit status: 0 as desired, and seen to be; 1 failed while applying; 2 bad arguments or
    configuration, nothing touched; 3 applied but not verified; 4 --dry-run found changes;
    5 Open vSwitch or the privilege is missing.
    """
    choice = OverlayOptions(
        config=config, name=name, bridge=bridge, tunnel_bridge=tunnel_bridge, datapath=datapath,
        membership=membership, underlay=underlay, vtep=vtep, udp_port=udp_port, ttl=ttl,
        groups=groups, aging=aging, learned_limit=learned_limit, segments=segment or (),
    )  # fmt: skip
    app_module.log_to_stderr(verbose)
    run = _Run(choice, db, dry_run=dry_run, verbose=verbose)
    try:
        status = run.teardown() if teardown else run.build()
        code = _DRY_RUN_FOUND_CHANGES if dry_run and status.changed else 0
        if dry_run and not status.changed and not status.verified:
            code = VerifyError.exit_status
    except OvsMcastError as error:
        status, code = _failed(run.name, error), error.exit_status
    except KeyboardInterrupt:
        message = "interrupted: run it again, it goes on from what is there"
        status, code = Status(run.name, problems=(message,)), ApplyError.exit_status
    except Exception as error:
        LOG.debug("unexpected", exc_info=True)
        message = f"a defect of ovs_mcast, please report it with -v: {error!r}"
        status, code = Status(run.name, problems=(message,)), ApplyError.exit_status
    _tell(status, code, as_json=json_, verbose=verbose, dry_run=dry_run)
    if hold and code == 0 and not teardown and not dry_run:
        code = run.hold()
    raise typer.Exit(code)


class _Run:
    """One run of the command, from the choice of an overlay to what was seen."""

    def __init__(
        self, choice: OverlayOptions, db: str | None, *, dry_run: bool, verbose: bool
    ) -> None:
        self._choice, self._db, self._dry_run, self._verbose = choice, db, dry_run, verbose
        self.name = choice.name or "default"

    def build(self) -> Status:
        overlay = self._choice.overlay()
        self.name = overlay.name
        with self._host() as host:
            if self._dry_run:
                return self._would_build(host, overlay)
            with output.progress() as bar:
                return host.reconcile(overlay, bar)

    def _would_build(self, host: Host, overlay: Overlay) -> Status:
        seen, changes = host.compare(overlay)
        if not changes:
            return host.verify(overlay)
        if overlay.membership == "auto" and not decides(seen.decision, overlay):
            output.say(f"auto has not looked at this underlay yet: shown as for {UNDECIDED}")
        return Status(overlay.name, changes.changes)

    def teardown(self) -> Status:
        self.name = self._choice.overlay_name()
        with self._host() as host:
            if self._dry_run:
                changes = host.plan_teardown(self.name).changes
                return Status(self.name, changes, verified=not changes)
            others = [name for name in host.overlays() if name != self.name]
            with output.progress() as bar:
                status = host.teardown(self.name, bar)
            if not status.changed and others:
                output.say(f"nothing is marked {self.name}; --name: {', '.join(others)}")
            return status

    def hold(self) -> int:
        """Stay while sockets hold groups; SIGTERM and Ctrl-C end it in order."""
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            with self._host() as host:
                host.hold(self._choice.overlay(), Notify().ready)
        except KeyboardInterrupt:
            output.say("no longer holding the groups")
        except OvsMcastError as error:
            output.say(str(error))
            return error.exit_status
        return 0

    def _host(self) -> Host:
        check_remote(self._db, "--db")
        if not self._dry_run:
            app_module.require_net_admin()
        return connect(self._db)


def _failed(name: str, error: OvsMcastError) -> Status:
    if isinstance(error, VerifyError) and isinstance(error.status, Status):
        return error.status
    done = error.done if isinstance(error, ApplyError) else ()
    changes = tuple(change for change in done if isinstance(change, Change))
    return Status(name, changes, problems=(str(error),))


def _tell(status: Status, code: int, *, as_json: bool, verbose: bool, dry_run: bool) -> None:
    if as_json:
        output.write_json(status.to_json())
    else:
        output.tell_changes(status.changes, verbose=verbose)
        if code == 0 and not status.changed:
            output.say(f"overlay {status.overlay}: nothing to change")
        elif code == 0:
            output.say(f"overlay {status.overlay}: as wanted, and seen to be")
        elif dry_run and status.changed:
            output.say(f"overlay {status.overlay}: {len(status.changes)} changes to make")
    for problem in status.problems:
        output.say(problem)


def main() -> None:
    """Run the command; typer reports usage errors with exit status 2."""
    app = app_module.application()
    app.command()(setup)
    app(prog_name="python -m ovs_mcast.setup")
