"""Errors of a migration."""

from __future__ import annotations


class MigrationIncomplete(Exception):
    """The copy is not complete, or not verified. The message says what to do."""
