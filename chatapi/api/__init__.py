"""The routes: a file for each dialect or resource. Each parses, calls one thing, and formats."""
