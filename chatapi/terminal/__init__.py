"""`chatapi chat`: a client for terminals. It knows the service by its public routes only."""

from chatapi.terminal.client import ChatClient, Failed
from chatapi.terminal.conversation import Conversation, converse, printable, send_once

__all__ = ["ChatClient", "Conversation", "Failed", "converse", "printable", "send_once"]
