"""Custody of a request: from its entry on a stream to its committed outcome."""
