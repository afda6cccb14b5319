"""`ovs-mcast segment`: the segments of an overlay in place, one at a time."""
