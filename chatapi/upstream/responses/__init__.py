"""The provider for OpenAI's Responses."""
