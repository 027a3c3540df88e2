"""One module per `linewatch` command that makes or judges models."""
