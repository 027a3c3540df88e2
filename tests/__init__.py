"""Tests of Linewatch."""
