"""The conversation in a terminal: lines of a person in, answers out, and commands that begin with a slash."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any, TextIO

from chatapi.terminal.client import ChatClient, Failed

LISTED = 20  # sessions
SHOWN = 6  # last messages of a session that is opened
INCOMPLETE = {  # reasons of a finish
    "length": "it has reached the limit of its length",
    "content_filter": "the model API's content filter ended it",
}
DIM, PLAIN = "\x1b[2m", "\x1b[0m"
HELP = """\
/new            begin a new session
/sessions       list the sessions that were used last
/open NUMBER    continue one of them; or /open SESSION
/history        show the last messages of this session
/again          ask for another answer to the last message
/model NAME     use another model from now on
/help           show this
/quit           end; so does Ctrl-D
Ctrl-C stops a running answer and its cost. A line that ends with \\ continues on the next one."""


class Conversation:
    """One session at a time, with its commands."""

    def __init__(
        self, client: ChatClient, out: TextIO, developer_message: str, model: str | None = None, *, dim: bool = False
    ) -> None:
        """Begin without a session.

        Args:
            dim: show lines that are not of the model in a dim colour.
        """
        self.session_id: str | None = None
        self.developer_message = developer_message
        self.model = model
        self._client = client
        self._out = out
        self._dim = dim
        self._listed: list[str] = []
        self._last_answer: str | None = None  # the id of its message

    def say(self, text: str) -> None:
        """Print a line that is not of the model; an error or a title in it may have any words."""
        text = printable(text)
        print(f"{DIM}{text}{PLAIN}" if self._dim else text, file=self._out, flush=True)

    def send(self, text: str | None) -> bool:
        """Send a message, or ask for another answer (None), and print the answer. Return whether it is complete.

        Ctrl-C stops the answer at the server, unless the session is new and the server has not named it yet.

        Raises:
            BrokenPipeError: the program that reads the output has ended.
        """
        message: dict[str, Any] = {"user_message": text} if text is not None else {"replace": self._last_answer}
        if self.session_id is None:
            message["developer_message"] = self.developer_message
        else:
            message["session_id"] = self.session_id
        if self.model is not None:
            message["model"] = self.model
        events = self._client.send(message)
        try:
            for event in events:
                match event.name:
                    case "session":
                        self.session_id = event.data["session_id"]
                        self._last_answer = event.data["message_id"]
                    case "text" | "refusal":
                        print(printable(event.data["text"]), end="", file=self._out, flush=True)
                    case "error":
                        print(file=self._out)
                        self.say(f"The answer is not complete: {event.data['detail']}")
                        return False
                    case "done":
                        print(file=self._out, flush=True)
                        if (reason := INCOMPLETE.get(str(event.data.get("finish_reason")))) is not None:
                            self.say(f"The answer is not complete: {reason}.")
                            return False
        except KeyboardInterrupt:
            events.close()
            print(file=self._out)
            if self.session_id is None:
                self.say("Not waiting any more. The server may still store an answer: /sessions lists it then.")
                return False
            self.stop()
            self.say("Stopped. The text so far is kept.")
            return False
        return True

    def stop(self) -> None:
        """Stop the running answer at the server, if there is one."""
        if self.session_id is not None:
            self._client.stop(self.session_id)

    def command(self, line: str) -> None:
        """Do what a line with a slash says."""
        name, _, argument = line[1:].partition(" ")
        argument = argument.strip()
        match name:
            case "new":
                self.session_id = self._last_answer = None
                self.say("The next message begins a new session.")
            case "sessions":
                self._list()
            case "open" if argument:
                self._open(argument)
            case "history":
                self._show()
            case "again" if self._last_answer is not None:
                self.send(None)
            case "again":
                self.say("There is no answer yet in this session.")
            case "model":
                self.model = argument or None
                self.say(f"Model: {argument or 'the default of the server'}")
            case "help":
                self.say(HELP)
            case _:
                self.say("This command does not exist, or needs an argument. /help lists the commands.")

    def _list(self) -> None:
        found = self._client.sessions(LISTED)
        self._listed = [session["session_id"] for session in found]
        for number, session in enumerate(found, 1):
            self.say(f"{number:3}  {session.get('title') or 'Untitled'}  {session['session_id']}")
        if not found:
            self.say("There are no sessions yet.")

    def _open(self, argument: str) -> None:
        if argument.isdecimal() and 1 <= int(argument) <= len(self._listed):
            argument = self._listed[int(argument) - 1]
        self.show(argument)

    def _show(self) -> None:
        if self.session_id is None:
            self.say("There is no message yet in this session.")
        else:
            self.show(self.session_id)

    def show(self, session_id: str) -> None:
        """Continue a session, and print its last messages."""
        messages = self._client.messages(session_id, SHOWN)
        self.session_id = session_id
        answers = [message["id"] for message in messages if message["role"] == "assistant"]
        self._last_answer = answers[-1] if answers else None
        for message in messages:
            text = printable(str(message.get("content") or ""))
            if message["role"] == "user":
                self.say(f"> {text}")
            elif message["role"] == "assistant":
                print(text, file=self._out, flush=True)


def converse(conversation: Conversation, read: Callable[[str], str] = input) -> int:
    """Read lines until Ctrl-D or /quit, and answer them; return the exit status."""
    conversation.say("Write a message. /help lists the commands, Ctrl-D ends.")
    while True:
        try:
            line = read("> ")
            while line.endswith("\\"):
                line = line[:-1] + "\n" + read("... ")
        except EOFError:
            return 0
        except KeyboardInterrupt:
            conversation.say("Ctrl-D ends.")
            continue
        if not line.strip():
            continue
        if line.strip() == "/quit":
            return 0
        try:
            if line.startswith("/"):
                conversation.command(line.strip())
            else:
                conversation.send(line)
        except Failed as failure:
            conversation.say(str(failure))


def send_once(conversation: Conversation, text: str) -> int:
    """Send one message and print the answer; return 0 if it is complete, else 1. The session's id goes to stderr.

    An answer that has no reader any more is stopped, as Ctrl-C stops it.

    Raises:
        BrokenPipeError: the program that reads the output has ended.
    """
    try:
        complete = conversation.send(text)
    except BrokenPipeError:
        conversation.stop()
        raise
    except Failed as failure:
        print(printable(str(failure)), file=sys.stderr)
        return 1
    finally:
        if conversation.session_id is not None:
            print(f"session {conversation.session_id}", file=sys.stderr)
    return 0 if complete else 1


def printable(text: str) -> str:
    """Return `text` without control characters, which a terminal would obey, except line ends and tabs."""
    if text.isprintable():
        return text
    return "".join([one if one.isprintable() or one in "\n\t" else "\ufffd" for one in text])
