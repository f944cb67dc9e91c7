"""Running answers: start, run, read, stop, recover."""
