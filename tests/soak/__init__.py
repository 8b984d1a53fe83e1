"""A real worker, portal and server under mixed load for hours: `make soak HOURS=1`."""
