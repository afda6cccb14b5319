"""`python -m ovs_mcast.status`."""

from .command import main

if __name__ == "__main__":
    main()
