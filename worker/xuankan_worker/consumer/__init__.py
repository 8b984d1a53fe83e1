"""Loops that feed the dispatcher and keep its leases."""
