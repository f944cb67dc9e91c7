"""Every SQL statement of the product, one text for both databases.

`$1` parameters, RETURNING, ON CONFLICT; no JSON operators; time is an argument. What must hold together is one
transaction and has one name, which callers find here.

`FOR UPDATE` and its kin lock rows where writers run side by side; a driver with one writer leaves them out. Everybody
locks a session before its generations, so that no two wait for each other. Appending takes the weakest lock on a
generation and ending it the strongest: when a transaction that ends one has its lock, all of the log is visible, and
no more comes.

Every row that is read by an id is checked to be of that id: a connection that brings another's is broken.
"""

from __future__ import annotations

from chatapi.store.transactions.copying import MOST_COPIED, fork
from chatapi.store.transactions.editing import add_messages, remove_answer, remove_message
from chatapi.store.transactions.logs import (
    APPEND_ARRAYS,
    SWEEP_AT_ONCE,
    append,
    find_generation,
    finish,
    latest_generation,
    read_log,
    renew,
    request_stop,
    running_of,
    still_ours,
    sweep,
)
from chatapi.store.transactions.reading import (
    answer_run,
    context,
    find_dialect_data,
    find_message,
    find_messages_of,
    input_of,
    messages,
    messages_before,
)
from chatapi.store.transactions.restoring import restore, restoring
from chatapi.store.transactions.rows import (
    Candidate,
    Lease,
    NewIds,
    Running,
    ScanSnapshot,
    StartedTurn,
    StoredLog,
    by_size,
    encode_call,
)
from chatapi.store.transactions.sessions import (
    SessionTime,
    agree,
    change_session,
    count_sessions,
    create_conversation,
    create_session,
    delete_session,
    find_session,
    list_sessions,
    probe,
)
from chatapi.store.transactions.tree import resolve
from chatapi.store.transactions.turns import begin, find_by_idempotency_key
from chatapi.store.transactions.usage import MOST_TALLIES, usage_of
from chatapi.store.transactions.walking import begin_scan, candidates, stops, stretch, walk

__all__ = [
    "APPEND_ARRAYS",
    "StartedTurn",
    "Candidate",
    "Lease",
    "MOST_TALLIES",
    "MOST_COPIED",
    "NewIds",
    "Running",
    "SWEEP_AT_ONCE",
    "SessionTime",
    "StoredLog",
    "ScanSnapshot",
    "add_messages",
    "agree",
    "answer_run",
    "append",
    "begin",
    "begin_scan",
    "find_by_idempotency_key",
    "by_size",
    "candidates",
    "change_session",
    "context",
    "count_sessions",
    "create_conversation",
    "create_session",
    "delete_session",
    "encode_call",
    "find_dialect_data",
    "find_generation",
    "find_message",
    "find_messages_of",
    "find_session",
    "finish",
    "fork",
    "input_of",
    "latest_generation",
    "list_sessions",
    "messages",
    "messages_before",
    "probe",
    "read_log",
    "remove_answer",
    "remove_message",
    "renew",
    "request_stop",
    "resolve",
    "restore",
    "restoring",
    "running_of",
    "still_ours",
    "stops",
    "stretch",
    "sweep",
    "usage_of",
    "walk",
]
