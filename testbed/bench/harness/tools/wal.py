"""Who takes WAL off a slot: lifeboat into a repository, and pg_receivewal into plain files."""

import json
from enum import Enum
from pathlib import Path

from ..files import disk_bytes, emptied, remove
from ..measure import Command, ToolFailed, call
from ..server import USER, Server, give_to_server
from .base import Bench, Subject
from .lifeboat import INSTANCE, Lifeboat

RECEIVER = "pg_receivewal"
LOCAL = "cp from a directory"
KEEPER = "bench_keeper"
"""The slot that keeps all WAL of the run; those of the tools are copies of it."""


class WalPhase(Enum):
    """What is timed, in this order."""

    DRAIN = "drain of a slot"
    REPLAY = "server start to promotion"
    RESTORE = "restore begun to promotion"


def copy_slot(server: Server, name: str) -> None:
    """A slot at the keeper's position, whatever it was before."""
    server.ask(f"SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = '{name}'")
    server.ask(f"SELECT pg_copy_physical_replication_slot('{KEEPER}', '{name}')")


class WalLifeboat(Lifeboat):
    """Streams into a local repository that holds a base backup; runs as the server's user, so that it may start what it restores."""

    slot = f"lifeboat_{INSTANCE}"

    def __init__(self, bench: Bench, server: Server) -> None:
        super().__init__(bench, Subject.WAL)
        self.origin = server
        self.note = "default settings, heartbeat off: compressed, sealed, signed, stored as segments, then acknowledged"

    def source(self) -> Server:
        return self.origin

    def prepare(self) -> None:
        """A repository with a base backup, kept aside."""
        give_to_server(emptied(self.home))
        made = self.call("init", str(self.home), "--tenant", "bench", "--instance", INSTANCE, "--json")
        wal = f'[instances.{INSTANCE}.postgres.wal]\nslot = "{self.slot}"\nheartbeat = "off"'
        self.write_config(json.loads(made), f"digests = false\n{wal}")
        call(self.command("backup", INSTANCE), self.bench.log)
        (self.home / "repository").rename(self.home / "repository-base")

    def renew(self) -> None:
        """The base backup alone, and the slot where it began."""
        remove(self.home / "repository")
        call(Command(["cp", "-a", str(self.home / "repository-base"), str(self.home / "repository")]), self.bench.log)
        copy_slot(self.origin, self.slot)

    def call(self, *arguments: str) -> str:
        return call(Command([str(self.program), *arguments], user=USER), self.bench.log)

    def command(self, *arguments: str) -> Command:
        return Command([str(self.program), "--config", str(self.config), "--quiet", *arguments], user=USER)

    def drain(self, _end: int) -> Command:
        return self.command("wal", "stream", INSTANCE, "--once")

    def restoring(self, target: Path) -> Command:
        """To the latest moment; not quiet, since it says when the server may be started."""
        return Command([str(self.program), "--config", str(self.config), "restore", INSTANCE, "--to", str(target)], user=USER)

    def check(self, end: int) -> None:
        """Everything to the end is held, without a gap, and is what was signed."""
        found = json.loads(self.call("--config", str(self.config), "--json", "wal", "check", INSTANCE, "--read"))
        runs = [run for instance in found["instances"] for stream in instance["streams"] for run in stream["runs"]]
        if not found["sound"] or len(runs) != 1 or lsn(runs[0]["last"]) < end:
            raise ToolFailed(f"{self.key}: what is held is not one sound run to {end:X}: {found}")


class Receiver:
    """PostgreSQL's own receiver: writes and flushes whole segments, as they are."""

    name = RECEIVER
    key = f"wal/{RECEIVER}"
    note = "writes each segment as it is and flushes it; neither compresses nor seals nor checks"
    slot = "bench_receivewal"

    def __init__(self, bench: Bench, server: Server) -> None:
        self.bench = bench
        self.origin = server
        self.home = bench.work / "wal-receivewal"

    def version(self) -> str:
        return call(Command(["pg_receivewal", "--version"], user=USER), self.bench.log).strip()

    def renew(self) -> None:
        give_to_server(emptied(self.home))
        copy_slot(self.origin, self.slot)

    def drain(self, end: int) -> Command:
        # It ends behind --endpos, not at it, and there is nothing behind the end.
        argv = ["pg_receivewal", "-h", "127.0.0.1", "-p", str(self.origin.port), "-U", "lifeboat", "-D", str(self.home)]
        return Command([*argv, f"--slot={self.slot}", f"--endpos={text(end - 1)}", "--no-loop"], user=USER)

    def stored(self) -> int:
        return disk_bytes(self.home)

    def finish(self) -> None:
        """Gives the last segment its name, as somebody does who restores from here."""
        for partial in self.home.glob("*.partial"):
            partial.rename(partial.with_suffix(""))


def lsn(position: str) -> int:
    high, _, low = position.partition("/")
    return (int(high, 16) << 32) + int(low, 16)


def text(position: int) -> str:
    return f"{position >> 32:X}/{position & 0xFFFFFFFF:X}"
