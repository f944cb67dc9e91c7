"""Starting, watching and ending processes. Linux: the figures are read from `/proc`.

A process is watched together with all its descendants. Each started one leads a session of its own, so that a Ctrl-C
reaches the benchmark alone, which then ends them in order, children of theirs included.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Self

ROOT = Path(__file__).resolve().parent.parent
TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
END_SECONDS = 10.0  # for an orderly end; then it is killed
POLL_SECONDS = 0.005
LOG_LINES_SHOWN = 20


class BenchError(Exception):
    """The benchmark cannot continue; the message has the reason."""


class Process:
    """A program that runs until the `with` block ends. Its output goes to a log unless it is asked for."""

    def __init__(
        self,
        name: str,
        command: list[str],
        log: Path,
        *,
        cwd: Path = ROOT,
        env: Mapping[str, str] | None = None,
        pipe: bool = False,
        user: str | None = None,
    ) -> None:
        self.name = name
        self.log = log
        with log.open("ab") as output:
            self.popen = subprocess.Popen(
                command,
                cwd=cwd,
                env=env,
                stdin=subprocess.PIPE if pipe else subprocess.DEVNULL,
                stdout=subprocess.PIPE if pipe else output,
                stderr=output,
                start_new_session=True,
                text=True,
                user=user,
            )
        self.pid = self.popen.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def talk(self, line: str, seconds: float) -> str:
        """Give the program a line, and wait for its end and all it prints."""
        try:
            output, _ = self.popen.communicate(line + "\n", timeout=seconds)
        except subprocess.TimeoutExpired as error:
            raise BenchError(f"{self.name} did not end within {seconds:.0f} s") from error
        if self.popen.returncode != 0:
            raise self.trouble(f"ended with status {self.popen.returncode}")
        return output

    def first_line(self) -> str:
        """The first line that the program prints; fails when it ends without one."""
        assert self.popen.stdout
        line: str = self.popen.stdout.readline()
        if not line:
            raise self.trouble("ended at once")
        return line.strip()

    def wait_for_port(self, port: int, seconds: float) -> None:
        """Return as soon as the program accepts connections."""
        deadline = time.monotonic() + seconds
        while not accepts(port):
            if self.has_ended():
                raise self.trouble("ended before it served")
            if time.monotonic() > deadline:
                raise self.trouble(f"did not serve within {seconds:.0f} s")
            time.sleep(POLL_SECONDS)

    def has_ended(self) -> bool:
        """Whether it has ended. It is left unreaped, so that its id, and its group's, stay its own until `end`."""
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None

    def trouble(self, what: str) -> BenchError:
        lines = self.log.read_text(errors="replace").splitlines()[-LOG_LINES_SHOWN:]
        return BenchError("\n".join([f"{self.name} {what}", *(f"  | {line}" for line in lines)]))

    def end(self) -> None:
        """Terminate it, kill it if necessary, and kill its descendants."""
        if self.popen.returncode is None:
            os.kill(self.pid, signal.SIGTERM)  # Popen's own would reap it
            deadline = time.monotonic() + END_SECONDS
            while not self.has_ended() and time.monotonic() < deadline:
                time.sleep(POLL_SECONDS)
            os.killpg(self.pid, signal.SIGKILL)
            self.popen.wait()
        for stream in (self.popen.stdin, self.popen.stdout):
            if stream:
                stream.close()


def accepts(port: int) -> bool:
    with socket.socket() as connection:
        return connection.connect_ex(("127.0.0.1", port)) == 0


def free_port() -> int:
    """Return a port that no socket listens on now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def cpu_seconds(pid: int) -> float:
    """User and system time of all threads, ended ones too, of a process and its descendants."""
    return sum(sum(map(int, stat_fields(each)[11:15])) for each in family(pid)) / TICKS_PER_SECOND


def memory_bytes(pid: int) -> int:
    """Resident memory of a process and its descendants."""
    return sum(int(stat_fields(each)[21]) for each in family(pid)) * PAGE_BYTES


def stat_fields(pid: int) -> list[str]:
    """`/proc/PID/stat` after the name, which may hold anything.

    Index 11 is utime, 12 stime, 13 and 14 the same of children that have ended, 21 rss; all 0 if it has just ended.
    """
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return ["0"] * 22


def family(pid: int) -> list[int]:
    """A process and its descendants."""
    of_threads = []
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(FileNotFoundError, ProcessLookupError):  # of a thread that has just ended
            of_threads.append(path.read_text().split())
    return [pid, *(each for children in of_threads for child in children for each in family(int(child)))]
