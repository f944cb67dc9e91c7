"""Routes of the server itself: health, documentation, the chat page."""
