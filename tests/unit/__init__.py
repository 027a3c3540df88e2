"""Units: no sockets, no processes."""
