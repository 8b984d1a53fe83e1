"""Which rows run next. Pure: no clock, socket or GPU."""
