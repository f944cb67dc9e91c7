"""Parts that all routes share: bodies, streams, errors, services."""
