"""`python -m ovs_mcast.probe`."""

from .command import main

if __name__ == "__main__":
    main()
