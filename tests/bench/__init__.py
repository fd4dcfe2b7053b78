"""Benchmarks against other servers, on one machine in one run. They are not tests."""
