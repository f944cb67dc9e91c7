"""OpenAI's protocols over stored sessions: Chat Completions, Responses, Conversations."""
