"""Test doubles and scripted peers for tests and benchmarks."""
