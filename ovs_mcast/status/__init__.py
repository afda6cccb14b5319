"""The command `ovs-mcast status`: show what is in place on this host."""
