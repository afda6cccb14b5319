"""rtnetlink messages, coded and decoded (rtnetlink(7)); nothing is sent here."""

TABLES = {"main": 254, "local": 255}
UNICAST, LOCAL = 1, 2  # RTN_UNICAST, RTN_LOCAL
