"""The typer application of a command, its `--version` and `--schema`, log and privilege check."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable
from functools import wraps
from inspect import Parameter, Signature, signature
from typing import Annotated, Any, TextIO

import typer

from ..errors import UnavailableError
from .output import write_json, write_line
from .version import VERSION

_CAP_NET_ADMIN = 12

# Builds the JSON Schema of a command's `--json` document, on demand.
Schema = Callable[[], object]


def application(text: str | None = None, *, completion: bool = False) -> typer.Typer:
    """Return an application; with ``text`` it has subcommands, and shows its help without one.

    ``completion`` adds --install-completion and --show-completion. Help and usage errors are plain
    text: rich would interpret brackets as markup and reflow lines.
    """
    app = typer.Typer(
        add_completion=completion,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
        no_args_is_help=text is not None,
        help=text,
    )
    if text is not None:
        app.callback()(with_options(lambda: None, [_version_option()]))
    return app


def add_command(
    app: typer.Typer,
    command: Callable[..., None],
    name: str | None = None,
    *,
    schema: Schema | None = None,
) -> None:
    """Add a command to the application, with --version and, given a schema, --schema."""
    options = [_version_option()]
    if schema is not None:
        options.insert(0, _schema_option(schema))
    app.command(name)(with_options(command, options))


def run_module(
    command: Callable[..., None], *, schema: Schema | None = None, given: object = None
) -> None:
    """Run a command as `python -m ovs_mcast.NAME`; usage errors have exit status 2.

    The command finds ``given`` as ``obj`` of its typer.Context.
    """
    app = application()
    add_command(app, command, schema=schema)
    app(prog_name=f"python -m ovs_mcast.{command.__name__}", obj=given)


def with_options(command: Callable[..., None], options: Iterable[Parameter]) -> Callable[..., None]:
    """Return the command with more options that act by their callback alone."""
    own = [*signature(command, eval_str=True).parameters.values()]
    more = [*options]

    @wraps(command)
    def called(**given: object) -> None:
        for option in more:
            given.pop(option.name, None)
        command(**given)

    return redescribe(called, [*own, *more])


def redescribe(
    command: Callable[..., None], parameters: Iterable[Parameter]
) -> Callable[..., None]:
    """Give a command the signature that typer is to read options from; return the command."""
    as_keywords = [one.replace(kind=Parameter.KEYWORD_ONLY) for one in parameters]
    described: Any = command
    described.__signature__ = Signature(as_keywords)
    described.__annotations__ = {one.name: one.annotation for one in as_keywords}
    return command


def _version_option() -> Parameter:
    def show(asked: bool) -> None:
        if asked:
            write_line(f"ovs-mcast {VERSION}")
            raise typer.Exit

    option = typer.Option("--version", is_eager=True, callback=show, help="Show the version.")
    return _flag("version", option)


def _schema_option(schema: Schema) -> Parameter:
    def show(asked: bool) -> None:
        if asked:
            write_json(schema())
            raise typer.Exit

    text = "Show the JSON Schema of the --json document."
    return _flag("schema", typer.Option("--schema", is_eager=True, callback=show, help=text))


def _flag(name: str, option: Any) -> Parameter:
    annotation = Annotated[bool, option]
    return Parameter(name, Parameter.KEYWORD_ONLY, default=False, annotation=annotation)


class _ToStderr(logging.StreamHandler[TextIO]):
    """Marks the handler that a command installed."""


def log_to_stderr(verbose: bool) -> None:
    """Log to stderr. Discard library logs; their failures are raised as our own errors."""
    ours, root = logging.getLogger("ovs_mcast"), logging.getLogger()
    for handler in [handler for handler in ours.handlers if isinstance(handler, _ToStderr)]:
        ours.removeHandler(handler)  # of an earlier call, which may have had another stderr
    handler = _ToStderr()
    handler.setFormatter(logging.Formatter("%(message)s"))
    ours.addHandler(handler)
    if not root.handlers:
        root.addHandler(logging.NullHandler())
    ours.setLevel(logging.DEBUG if verbose else logging.WARNING)
    ours.propagate = False


def require_net_admin() -> None:
    """Raise UnavailableError without CAP_NET_ADMIN, which addresses and routes need."""
    with open("/proc/self/status", encoding="ascii", errors="replace") as status:
        effective = next(line for line in status if line.startswith("CapEff:"))
    if not int(effective.split()[1], 16) >> _CAP_NET_ADMIN & 1:
        who = "root" if os.geteuid() else "CAP_NET_ADMIN"
        raise UnavailableError(
            f"this changes addresses and routes: run it as {who}", reason="privilege"
        )
