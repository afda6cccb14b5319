"""`ovs-mcast setup`, also `python -m ovs_mcast.setup`: build, change or remove an overlay."""

from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Annotated

import typer

from ..adapters.systemd import Notify
from ..cli import output
from ..cli.app import log_to_stderr, require_net_admin, run_module
from ..cli.overlay_options import OverlayOptions, default_name, takes_overlay
from ..cli.report import Report, summary
from ..cli.run import Failure, run
from ..core.model import Overlay
from ..core.status import Status
from ..core.target import UNDECIDED, decides
from ..core.text import harmless
from ..errors import ApplyError, VerifyError
from ..host.connect import check_remote, connect
from ..host.host import Host

_DRY_RUN_FOUND_CHANGES = 4
# Returns the host of an OVSDB, the local one for None.
OpenHost = Callable[[str | None], Host]


@takes_overlay
def setup(
    options: OverlayOptions,
    *,
    context: typer.Context,
    db: output.Database = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would change.")] = False,
    teardown: Annotated[bool, typer.Option("--teardown", help="Remove all that is ours.")] = False,
    hold: Annotated[
        bool, typer.Option("--hold", help="Stay, and hold the groups in this process.")
    ] = False,
    json_: output.Json = False,
    schema: Annotated[
        bool,
        typer.Option(
            "--schema", help="Show the JSON Schema of the configuration; with --json, of that."
        ),
    ] = False,
    verbose: Annotated[bool, typer.Option("-v", "--verbose", help="Print every change.")] = False,
) -> None:
    """Build, change or remove a multicast VXLAN overlay on this machine's Open vSwitch.

    Exit status: 0 applied and verified; 1 failed or interrupted while applying; 2 bad arguments or
    configuration, nothing touched; 3 applied but not verified; 4 --dry-run found changes;
    5 Open vSwitch or the privilege is missing.
    """
    if schema:
        show_schema(as_json=json_)
        raise typer.Exit
    log_to_stderr(verbose)
    open_host: OpenHost = context.obj or connect
    report = Report("setup", as_json=json_, verbose=verbose)
    setting_up = _Setup(options, db, open_host, dry_run=dry_run, report=report)
    act = setting_up.teardown if teardown else partial(setting_up.build, hold=hold)
    run("setup", act, interrupted=ApplyError.exit_status, report=setting_up.failed)


def show_schema(*, as_json: bool) -> None:
    """Print the schema of the configuration, or with ``as_json`` of the `--json` document."""
    from ..core import schemas  # noqa: PLC0415 - pydantic builds a schema only if asked for one

    output.write_json(schemas.setup() if as_json else schemas.configuration())


@dataclass(slots=True)
class _Setup:
    """One run of the command, from the options to the report."""

    options: OverlayOptions
    db: str | None
    open_host: OpenHost
    dry_run: bool
    report: Report
    name: str = ""

    def __post_init__(self) -> None:
        self.name = self.options.name or default_name()

    def build(self, *, hold: bool) -> int:
        overlay = self.options.overlay()
        self.name = overlay.name
        with self._host() as host:
            if self.dry_run:
                return self._found(_compare(host, overlay))
            with output.progress() as bar:
                status = host.reconcile(overlay, bar)
        self.report.status(status, summary(status))
        return self._hold(overlay) if hold else 0

    def teardown(self) -> int:
        self.name = self.options.overlay_name()
        with self._host() as host:
            if self.dry_run:
                changes = host.plan_teardown(self.name).changes
                return self._found(Status(self.name, changes, verified=not changes))
            others = [name for name in host.overlays() if name != self.name]
            with output.progress() as bar:
                status = host.teardown(self.name, bar)
        if not status.changed and others:
            output.say(
                f"no overlay {self.name} on this host; --name: {harmless(', '.join(others))}"
            )
        self.report.status(status, summary(status))
        return 0

    def failed(self, failure: Failure) -> None:
        """Report a failure."""
        self.report.failed(self.name, failure)

    def _found(self, status: Status) -> int:
        """Report the result of a dry run; return its exit status."""
        if status.changed:
            count = len(status.changes)
            self.report.status(status, f"overlay {status.overlay}: {count} changes to make")
            return _DRY_RUN_FOUND_CHANGES
        self.report.status(status, summary(status) if status.verified else "")
        return 0 if status.verified else VerifyError.exit_status

    def _hold(self, overlay: Overlay) -> int:
        """Stay while sockets hold groups; SIGTERM and Ctrl-C end it in order."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.default_int_handler)
        try:
            with self._host() as host:
                host.hold(overlay, Notify().ready)
        except KeyboardInterrupt:
            output.say("released the groups")
        return 0

    def _host(self) -> Host:
        check_remote(self.db, "--db")
        if not self.dry_run:
            require_net_admin()
        return self.open_host(self.db)


def _compare(host: Host, overlay: Overlay) -> Status:
    seen, changes = host.compare(overlay)
    if not changes:
        return host.verify(overlay)
    if overlay.membership == "auto" and not decides(seen.decision, overlay):
        output.say(f"auto has not tested this underlay yet: shown as for {UNDECIDED}")
    return Status(overlay.name, changes.changes)


def main(open_host: OpenHost = connect) -> None:
    """Run the command on the host that ``open_host`` returns."""
    run_module(setup, given=open_host)
