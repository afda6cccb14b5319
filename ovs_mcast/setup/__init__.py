"""The command `ovs-mcast setup`: build, change or remove an overlay."""
