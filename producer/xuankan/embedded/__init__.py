"""A server and a worker of one's own, for as long as a process needs them."""
