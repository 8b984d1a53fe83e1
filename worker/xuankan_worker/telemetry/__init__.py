"""What is measured, and where it can be read."""
