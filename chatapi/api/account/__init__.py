"""Routes about the caller: usage, key tests, page configuration."""
