"""Telemetry: how the service reports on itself. Logs today; a module for each further signal."""
