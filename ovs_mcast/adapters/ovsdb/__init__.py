"""OVSDB: the connection (which knows no table), the transaction, and the rows as items."""

import warnings

with warnings.catch_warnings():
    # Where eventlet is installed, ovs imports it, used or not, and it warns of itself.
    warnings.filterwarnings("ignore", message=r"\s*Eventlet is deprecated")
    import ovs.poller as _poller  # noqa: F401
