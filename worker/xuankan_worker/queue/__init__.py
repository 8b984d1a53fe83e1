"""What is said to the server: streams, commits, names."""
