"""Producers: what a portal or a backlog submits requests and gets rankings with."""
