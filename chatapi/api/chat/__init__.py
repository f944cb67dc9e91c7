"""The `/api/chat` dialect: plain text, server-sent events and JSON."""
