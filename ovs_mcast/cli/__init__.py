"""Shared by all commands: exit statuses, output, and the options that choose an overlay."""
