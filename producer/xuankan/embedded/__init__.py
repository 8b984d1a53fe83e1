"""A private server and worker, for as long as a process needs them."""
