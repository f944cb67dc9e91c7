"""OpenAI Chat API: streams OpenAI-style models to any client and keeps the conversation."""

__version__ = "0.1.0"
