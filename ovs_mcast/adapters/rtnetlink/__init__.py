"""rtnetlink (rtnetlink(7)): client, event monitor, and messages encoded and decoded without I/O."""

TABLES = {"default": 253, "main": 254, "local": 255}
UNICAST, LOCAL = 1, 2  # RTN_UNICAST, RTN_LOCAL
