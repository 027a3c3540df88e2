"""Benchmarks: printed tables, never asserted."""
