"""A configuration file as Python values: YAML or JSON, bounded in size, depth and what it means.

A file may be written by somebody who means harm, or by mistake: `/dev/zero`, a FIFO, a few aliases
that stand for millions of nodes, a thousand brackets. Each is refused within a second or so.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path

import yaml

from .. import files
from ..errors import ConfigurationError

_BYTES = 1 << 20  # 4,094 segments with all their keys are a third of it
_NODES = 100_000  # with each alias as many as what it stands for
_DEPTH = 20

# libyaml, where PyYAML has it: thousands of segments in a tenth of the time.
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def read_file(path: Path) -> Mapping[str, object]:
    """Return a configuration file, YAML or JSON; ConfigurationError unless it is a mapping."""
    try:
        text = files.read(path, _BYTES).decode()
        _refuse_excess(text, path)
        data = yaml.load(text, Loader=_LOADER)
    except OSError as error:
        raise ConfigurationError(f"{path}: {error.strerror}", field="--config") from None
    except UnicodeDecodeError:
        raise ConfigurationError(f"{path} is not text", field="--config") from None
    except ConfigurationError:
        raise
    except ValueError as error:  # an invalid date, or an integer of too many digits
        raise ConfigurationError(f"{path}: {error}", field="--config") from None
    except yaml.YAMLError as error:
        where = getattr(error, "problem_mark", None)
        line = f", line {where.line + 1}" if where else ""
        reason = getattr(error, "problem", None) or "it cannot be read"
        raise ConfigurationError(f"{path}{line}: {reason}", field="--config") from None
    if not isinstance(data, Mapping):
        raise ConfigurationError(f"{path} is not a mapping of names to values", field="--config")
    return data


def _refuse_excess(text: str, path: Path) -> None:
    """Count nodes as if each alias were written out, before anything is made of them."""
    sizes: dict[str, int] = {}
    open_nodes: list[tuple[str | None, int]] = [(None, 0)]

    def close(anchor: str | None, size: int) -> None:
        if anchor is not None:
            sizes[anchor] = size
        outer, before = open_nodes.pop()
        open_nodes.append((outer, before + size))

    for event in yaml.parse(io.StringIO(text), Loader=_LOADER):
        if isinstance(event, yaml.CollectionStartEvent):
            open_nodes.append((event.anchor, 1))
        elif isinstance(event, yaml.CollectionEndEvent):
            close(*open_nodes.pop())
        elif isinstance(event, yaml.AliasEvent):
            # Of a node that is still open: it contains itself.
            close(None, sizes.get(str(event.anchor), _NODES))
        elif isinstance(event, yaml.ScalarEvent):
            close(event.anchor, 1)
        if len(open_nodes) > _DEPTH or open_nodes[-1][1] > _NODES:
            what = "nested too deeply" if len(open_nodes) > _DEPTH else "too much"
            raise ConfigurationError(f"{path}: {what}", field="--config")
