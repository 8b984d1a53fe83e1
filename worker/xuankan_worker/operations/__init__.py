"""Looks from outside, in processes of their own: exporter, `top`, checks."""
