"""Continuous WAL: how fast a slot is drained, and how fast a restored server replays while its WAL is still being fetched.

All rounds drain the same WAL: one slot keeps it, and each tool gets a copy of that slot each time.
"""

import os

from . import machine
from .files import read_all, remove
from .measure import Command, ToolFailed, call, run
from .profile import hottest
from .replay import Promotion, Replay
from .rounds import Results, Run, say
from .settings import Settings
from .tools import Bench, Subject
from .tools.lifeboat import INSTANCE
from .tools.wal import LOCAL, Receiver, WalLifeboat, WalPhase, text
from .wal_source import WalSource

SCALE = 50


class Wal:
    """The whole of the subject `wal`."""

    def __init__(self, bench: Bench, settings: Settings, results: Results, quiet: machine.Quiet) -> None:
        self.bench = bench
        self.settings = settings
        self.results = results
        self.quiet = quiet
        self.source = WalSource(bench.work, bench.log, 10 if settings.quick else SCALE)
        self.lifeboat = WalLifeboat(bench, self.source.server)
        self.receiver = Receiver(bench, self.source.server)
        self.replay = Replay(bench, self.lifeboat, self.receiver)

    def close(self) -> None:
        for server in (self.source.server, *self.replay.servers):
            server.kill_if_running()

    def prepare(self) -> int:
        say(f"wal: writing {self.settings.wal_megabytes:,} MB of WAL")
        self.source.open()
        self.lifeboat.prepare()
        self.source.write(self.settings.wal_megabytes)
        return self.source.settled_end()

    def measure(self) -> None:
        """Drains, then replays; what fails is told and ends the subject, not the run."""
        for tool in (self.lifeboat, self.receiver):
            self.results.versions[tool.name] = tool.version()
            self.results.notes[tool.key] = tool.note
        try:
            self.drains(self.prepare())
            self.replays()
        except ToolFailed as error:
            say(f"wal FAILED: {error}")
            self.results.failures.append(f"wal: {error}")

    def profile(self) -> str:
        """The hottest functions of one drain."""
        self.prepare()
        self.lifeboat.renew()
        command = self.lifeboat.drain(0)
        # perf's data belongs to root, and root may read the keys.
        found = hottest(self.bench, "wal, drain", Command(command.argv))
        remove(self.lifeboat.home)
        return found

    def drains(self, end: int) -> None:
        self.results.sizes["wal"] = end - self.source.start()
        tools = [self.lifeboat, self.receiver]
        for number in range(self.settings.rounds):
            self.quiet.begin_round(self.bench.work)
            for tool in tools[number % 2 :] + tools[: number % 2]:
                self.drain(tool, number, end)

    def drain(self, tool: WalLifeboat | Receiver, number: int, end: int) -> None:
        tool.renew()
        before = tool.stored()
        read_all(self.source.server.data / "pg_wal")
        # By the server's own writers there is a little more each time; both follow it.
        now = self.source.settled_end()
        usage = run(tool.drain(now), self.bench.log, self.source.server.pid())
        self.quiet.watch(f"{tool.key} {WalPhase.DRAIN.value}", usage.wall, usage.foreign, usage.stolen)
        self.results.runs.append(Run(Subject.WAL, tool.name, WalPhase.DRAIN.value, number, usage, tool.stored() - before))
        rate = (now - self.source.start()) / usage.wall / 1e6
        say(f"round {number + 1} {tool.key}: {WalPhase.DRAIN.value} {usage.wall:.2f} s, {rate:.0f} MB/s, cpu {usage.cpu:.1f} s")
        if number == 0:
            self.check(tool, end)

    def check(self, tool: WalLifeboat | Receiver, end: int) -> None:
        if isinstance(tool, Receiver):
            self.source.compare(tool.home, end)
        else:
            tool.check(end)
        self.results.checked.append(f"{tool.key} to {text(end)}")

    def replays(self) -> None:
        """More WAL, both taken to its end, then the same base replays it from either."""
        already = (self.source.end() - self.source.start()) // 1_000_000
        say(f"wal: writing to {self.settings.replay_megabytes:,} MB of WAL")
        self.source.write(max(1, self.settings.replay_megabytes - already))
        end = self.source.settled_end()
        for tool in (self.lifeboat, self.receiver):
            call(tool.drain(end), self.bench.log)
        self.receiver.finish()
        self.source.compare(self.receiver.home, end)
        self.results.checked.append(f"{self.receiver.key} taken up again, to {text(end)}")
        expected = self.source.digest()
        self.source.server.stop()
        compared = self.replay.make_base(self.source, end)
        self.results.sizes["wal_replayed"] = compared
        self.results.checked.append(f"WAL of {INSTANCE} as restored: {compared:,} bytes equal to the server's own files")
        self.results.notes[f"wal/{LOCAL}"] = "the same base and settings, restore_command = 'cp DIR/%f %p', all WAL there before the start"
        self.results.versions[LOCAL] = self.results.versions[self.receiver.name]
        for number in range(self.settings.rounds):
            self.quiet.begin_round(self.bench.work)
            ways = [self.replay.fetched, self.replay.local]
            for way in ways[number % 2 :] + ways[: number % 2]:
                os.sync()
                self.keep(number, way(expected))

    def keep(self, number: int, found: Promotion) -> None:
        for phase, usage in found.usages.items():
            self.results.runs.append(Run(Subject.WAL, found.name, phase.value, number, usage, None))
            self.quiet.watch(f"wal/{found.name} {phase.value}", usage.wall, usage.foreign, usage.stolen)
            say(f"round {number + 1} wal/{found.name}: {phase.value} {usage.wall:.2f} s")
        self.results.checked += [f"wal/{found.name} replayed"] if number == 0 else []
        self.results.remarks += found.remarks
