"""A restored server from its start to its promotion: with WAL fetched meanwhile, and with all WAL in a local directory."""

import os
import shutil
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

from . import machine
from .files import emptied, read_all, remove
from .measure import TIMEOUT, Command, ToolFailed, Usage, call, server_seconds
from .server import USER, Server, give_to_server, last_lines
from .tools import Bench
from .tools.wal import LOCAL, Receiver, WalLifeboat, WalPhase
from .wal_source import DIGEST, SEGMENT, WalSource

PORT = 5721
MAY_START = "PostgreSQL may be started"
PROMOTED = "database system is ready to accept connections"
STAGED = "lifeboat_wal"
POLL_SECONDS = 0.01


@dataclass
class Promotion:
    """How one server came up."""

    name: str
    usages: dict[WalPhase, Usage]
    remarks: list[str] = field(default_factory=list)


class Replay:
    """Both ways, from the same base backup and with the same settings of the server."""

    def __init__(self, bench: Bench, lifeboat: WalLifeboat, receiver: Receiver) -> None:
        self.bench = bench
        self.lifeboat = lifeboat
        self.receiver = receiver
        self.base = bench.work / "wal-base"
        self.fetching = bench.work / "wal-fetching"
        self.copying = bench.work / "wal-copying"
        self.servers = [Server(root / "pgdata", PORT, bench.work / "sockets", bench.log) for root in (self.fetching, self.copying)]

    def make_base(self, source: WalSource, end: int) -> int:
        """A restore that nobody starts: its WAL is compared with the source's, its base serves the local way."""
        give_to_server(emptied(self.base))
        call(self.lifeboat.restoring(self.base), self.bench.log)
        staged = self.base / "pgdata" / STAGED
        segments = sorted(path.name for path in staged.iterdir() if len(path.name) == 24)
        if not segments:
            raise ToolFailed(f"{staged}: the restore has staged no WAL")
        per_file = (1 << 32) // SEGMENT
        first = (int(segments[0][8:16], 16) * per_file + int(segments[0][16:], 16)) * SEGMENT
        compared = source.compare(staged, end, first)
        shutil.rmtree(staged)
        return compared

    def local(self, expected: str) -> Promotion:
        """`cp` from a directory."""
        server = self.servers[1]
        give_to_server(emptied(self.copying))
        call(Command(["cp", "-a", str(self.base / "pgdata"), str(server.data)]), self.bench.log)
        with (server.data / "postgresql.auto.conf").open("a", encoding="ascii") as file:
            file.write(f"restore_command = 'cp {self.receiver.home}/%f \"%p\"'\nrecovery_end_command = ''\n")
        read_all(self.receiver.home)
        os.sync()
        watch = Watch(server)
        watch.start()
        wall = watch.promoted()
        usage = watch.usage(wall, 0.0, 0)
        self.finish(server, expected)
        return Promotion(LOCAL, {WalPhase.REPLAY: usage})

    def fetched(self, expected: str) -> Promotion:
        """`lifeboat restore`: the server is started as soon as it may be."""
        server = self.servers[0]
        give_to_server(emptied(self.fetching))
        read_all(self.lifeboat.home / "repository")
        os.sync()
        whole, begun = Watch(server), time.monotonic()
        command = self.lifeboat.restoring(self.fetching)
        with self.bench.log.open("ab") as log:
            process = subprocess.Popen(
                command.argv, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.PIPE, user=USER, group=USER, extra_groups=[]
            )
        try:
            startable = self.until_startable(process, begun)
            watch = Watch(server)
            watch.start()
            wall = watch.promoted()
            total = time.monotonic() - begun
            said, restored = self.rest(process)
        finally:
            if process.returncode is None:
                process.kill()
                process.wait()
        staged = max(restored - begun, 0.0)
        cpu, peak = said.ru_utime + said.ru_stime, said.ru_maxrss * 1024
        usages = {WalPhase.REPLAY: watch.usage(wall, cpu, peak), WalPhase.RESTORE: whole.usage(total, cpu, peak)}
        self.finish(server, expected)
        remark = f"restore: startable after {startable:.1f} s, promoted after {total:.1f} s, lifeboat ended after {staged:.1f} s"
        return Promotion(self.lifeboat.name, usages, [remark])

    def until_startable(self, process: subprocess.Popen[bytes], begun: float) -> float:
        """Reads what the restore says until it says that the server may be started."""
        assert process.stderr is not None  # it was asked for
        said = b""
        while MAY_START.encode() not in said:
            line = process.stderr.read1(1 << 16)
            if not line:
                raise ToolFailed(f"the restore ended without `{MAY_START}`:\n{said.decode('utf-8', 'replace')[-2000:]}")
            said += line
        return time.monotonic() - begun

    def rest(self, process: subprocess.Popen[bytes]):
        """What is said to the end is for the log; then the kernel's record of the process, and when it ended."""
        assert process.stderr is not None
        said = process.stderr.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        with self.bench.log.open("ab") as log:
            log.write(said)
        if process.returncode != 0:
            raise ToolFailed(f"lifeboat restore ended with {process.returncode}: {said.decode('utf-8', 'replace')[-2000:]}")
        return usage, time.monotonic()

    def finish(self, server: Server, expected: str) -> None:
        """What was replayed is what the source held."""
        found = server.ask(DIGEST)
        server.stop()
        if found != expected:
            raise ToolFailed(f"{server.data}: the replayed content differs: {found} instead of {expected}")
        remove(server.data.parent)


class Watch:
    """One server's start, and the machine meanwhile."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.before = machine.ticks()
        self.after = self.before
        self.served = 0.0
        self.begun = time.monotonic()

    def start(self) -> None:
        self.server.says.unlink(missing_ok=True)
        self.begun = time.monotonic()
        self.server.pg_ctl("start", "-W", "-l", str(self.server.says), "-o", self.server.flags())

    def promoted(self) -> float:
        """Seconds from the start to the server's word that it takes writes."""
        deadline = self.begun + TIMEOUT
        while PROMOTED not in (said := self.said()):
            if "database system is shut down" in said or "FATAL:" in said or time.monotonic() > deadline:
                raise ToolFailed(f"{self.server.data} does not come up:\n{last_lines(self.server.says)}")
            time.sleep(POLL_SECONDS)
        wall = time.monotonic() - self.begun
        self.after, self.served = machine.ticks(), server_seconds(self.server.pid())
        return wall

    def said(self) -> str:
        return self.server.says.read_text("utf-8", "replace") if self.server.says.exists() else ""

    def usage(self, wall: float, cpu: float, peak: int) -> Usage:
        after = machine.ticks() if self.after is self.before else self.after
        busy = after.busy - self.before.busy
        return Usage(
            wall=wall,
            command=wall,
            cpu=cpu,
            server_cpu=self.served,
            peak_rss=peak,
            foreign=max(0.0, busy - cpu - self.served),
            stolen=after.stolen - self.before.stolen,
        )
