"""`python -m ovs_mcast.segment`."""

from .command import main

if __name__ == "__main__":
    main()
