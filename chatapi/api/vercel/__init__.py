"""The Vercel AI SDK's `useChat` protocol on the chat routes."""
