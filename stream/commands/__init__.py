"""One module per `linewatch` command that touches cameras, broker or page."""
