"""Which process holds the multicast sockets: a keeper process, or this process by a thread."""
