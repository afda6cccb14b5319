"""One host: observe, plan, apply, verify. The facade is host.py, the seam of I/O backend.py."""
