"""Times one command: wall, processor time of its process tree and of the server, peak memory, and the flush afterwards."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from . import machine

SUPERVISE = Path(__file__).with_name("supervise.py")
SAMPLE_SECONDS = 0.03
TIMEOUT = 3600


class ToolFailed(Exception):
    """A command ended with an error: its time means nothing."""


@dataclass(frozen=True)
class Command:
    """What a tool runs."""

    argv: Sequence[str]
    user: str = "root"
    env: Mapping[str, str] | None = None

    def short(self) -> str:
        line = " ".join(self.argv)
        return line if len(line) < 100 else f"{line[:100]}…"


@dataclass(frozen=True)
class Usage:
    """What a command took, in seconds and bytes."""

    wall: float
    """Until the command ended and everything it wrote was on the disk."""
    command: float
    """Until the command ended."""
    cpu: float
    """User and system time of the command and all its children."""
    server_cpu: float
    """The same of the PostgreSQL server meanwhile, the archive command included."""
    peak_rss: int
    """The largest sum of resident memory over the process tree."""
    foreign: float
    """Processor time that went to neither, the kernel's writers included."""
    stolen: float

    def to_json(self) -> dict[str, float]:
        return asdict(self)


def run(command: Command, log: Path, server: int | None = None) -> Usage:
    """Runs and measures; the output goes to the log, whose end is shown if the command fails."""
    os.sync()
    before, server_before = machine.ticks(), server_seconds(server)
    result = supervised(command, log)
    flush_started = time.monotonic()
    os.sync()
    flushed = time.monotonic() - flush_started
    after, server_after = machine.ticks(), server_seconds(server)
    if result["status"] != 0:
        raise ToolFailed(f"{command.short()} ended with {result['status']}:\n{tail(log)}")
    cpu, served = result["user"] + result["system"], server_after - server_before
    return Usage(
        wall=result["wall"] + flushed,
        command=result["wall"],
        cpu=cpu,
        server_cpu=served,
        peak_rss=int(result["peak_rss"]),
        foreign=max(0.0, after.busy - before.busy - cpu - served),
        stolen=after.stolen - before.stolen,
    )


def supervised(command: Command, log: Path) -> dict[str, float]:
    reader, writer = os.pipe()
    argv = [sys.executable, "-I", "-S", str(SUPERVISE), str(writer), str(SAMPLE_SECONDS), *command.argv]
    with log.open("ab") as out, os.fdopen(reader, "r", encoding="ascii") as answer:
        out.write(f"\n$ {' '.join(command.argv)}\n".encode())
        out.flush()
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            pass_fds=(writer,),
            cwd="/",
            user=command.user,
            group=command.user,
            extra_groups=[],
            env={**os.environ, **(command.env or {})},
        )
        os.close(writer)
        try:
            process.wait(TIMEOUT)
        except subprocess.TimeoutExpired:
            process.kill()
            raise ToolFailed(f"{command.short()} did not end within {TIMEOUT} s") from None
        text = answer.read()
    if not text:
        raise ToolFailed(f"the supervisor of {command.argv[0]} ended with {process.returncode}:\n{tail(log)}")
    result: dict[str, float] = json.loads(text)
    return result


def server_seconds(server: int | None) -> float:
    return machine.process_tree_seconds(server) if server is not None else 0.0


def tail(log: Path, lines: int = 15) -> str:
    """The end of what the last command said."""
    last = log.read_text("utf-8", "replace").rpartition("\n$ ")[2]
    return "\n".join(last.splitlines()[1:][-lines:])


def call(command: Command, log: Path) -> str:
    """Runs something that is not timed and gives its standard output."""
    with log.open("ab") as out:
        out.write(f"\n$ {' '.join(command.argv)}\n".encode())
        out.flush()
        done = subprocess.run(
            command.argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=out,
            cwd="/",
            user=command.user,
            group=command.user,
            extra_groups=[],
            env={**os.environ, **(command.env or {})},
            timeout=TIMEOUT,
            check=False,
        )
        out.write(done.stdout[-4000:])
    if done.returncode != 0:
        raise ToolFailed(f"{command.short()} ended with {done.returncode}:\n{tail(log)}")
    return done.stdout.decode("utf-8", "replace")
