"""Trials of clients of others. They run in `.venv-components`, which lacks the packages of the service."""
