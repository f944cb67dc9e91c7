"""Traces: spans of requests, answers and calls of the model API. `tracing.Tracing` is imported only if they are on."""

from chatapi.tracing.names import describe_answer, describe_call, describe_request

__all__ = ["describe_answer", "describe_call", "describe_request"]
