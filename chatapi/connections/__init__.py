"""Connections to other servers, with a bound on every wait."""
