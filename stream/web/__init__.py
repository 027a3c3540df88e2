"""The live page and its HTTP interface."""
