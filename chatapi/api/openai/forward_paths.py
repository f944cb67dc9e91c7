"""The requests under `/v1` that are passed on to the upstream as they are. Every other one is refused."""

from __future__ import annotations

import re
from typing import NamedTuple

# `*` is an id of the upstream. Each line: methods, and a path below `/v1`.
LINES = """
POST             embeddings
POST             moderations
POST             completions
POST             audio/speech
POST             audio/transcriptions
POST             audio/translations
POST             images/generations
POST             images/edits
POST             images/variations
GET POST         files
GET DELETE       files/*
GET              files/*/content
POST             uploads
POST             uploads/*/parts
POST             uploads/*/complete
POST             uploads/*/cancel
GET POST         vector_stores
GET POST DELETE  vector_stores/*
POST             vector_stores/*/search
GET POST         vector_stores/*/files
GET POST DELETE  vector_stores/*/files/*
GET              vector_stores/*/files/*/content
POST             vector_stores/*/file_batches
GET              vector_stores/*/file_batches/*
POST             vector_stores/*/file_batches/*/cancel
GET              vector_stores/*/file_batches/*/files
GET POST         batches
GET              batches/*
POST             batches/*/cancel
GET POST         containers
GET DELETE       containers/*
GET POST         containers/*/files
GET DELETE       containers/*/files/*
GET              containers/*/files/*/content
"""
FAMILIES = (
    *("embeddings", "moderations", "completions", "audio", "images", "files", "uploads", "vector_stores", "batches"),
    "containers",
)
_ID = r"(?!\.{1,2}(?:/|$))[A-Za-z0-9_.-]{1,128}"


class Rule(NamedTuple):
    """Paths that are passed on, and the methods with which they are."""

    pattern: re.Pattern[str]
    methods: frozenset[str]


def _rule(line: str) -> Rule:
    *methods, path = line.split()
    pattern = "/".join(_ID if part == "*" else re.escape(part) for part in path.split("/"))
    return Rule(re.compile(pattern), frozenset(methods))


RULES = [_rule(line) for line in LINES.strip().splitlines()]


def methods_of(path: str) -> frozenset[str] | None:
    """Return the methods with which a path below `/v1` is passed on; None if it is not."""
    return next((rule.methods for rule in RULES if rule.pattern.fullmatch(path)), None)
