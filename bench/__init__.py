"""Measures what the service costs: CPU per chunk, lateness, turns per second, memory. See `bench/README.md`."""
