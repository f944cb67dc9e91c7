"""Keys, owner tags and authorization."""
