"""Who holds the multicast sockets: this process, a keeper process, or an agent's thread."""
