"""`python -m ovs_mcast.setup`."""

from .command import main

if __name__ == "__main__":
    main()
