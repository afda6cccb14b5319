"""OVSDB: the connection (which knows no table), the transaction, and the rows as items."""
