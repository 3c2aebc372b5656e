"""The order of things: in each round every tool does a step before any tool does the next one, so that a slow minute of the
machine hits them all. The tools take turns at being first."""

import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from . import machine
from .files import disk_bytes, read_all, remove
from .measure import Command, ToolFailed, Usage, run
from .tools import Bench, Phase, Subject, Tool
from .tools.base import BACKUPS
from .tools.floor import Floor

REFERENCE = "physical reference"
DROP_CACHES = Path("/run/drop_caches")
"""The kernel's switch, mounted by `run` for --cold."""


@dataclass(frozen=True)
class Run:
    """One timed step of one tool in one round."""

    subject: Subject
    tool: str
    phase: str
    round: int
    usage: Usage
    stored: int | None
    """Bytes that the step added to the repository."""

    def to_json(self) -> dict[str, object]:
        head = {"subject": self.subject.value, "tool": self.tool, "phase": self.phase, "round": self.round, "stored": self.stored}
        return {**head, **self.usage.to_json()}


@dataclass
class Results:
    """Everything that was measured, and everything that was not."""

    runs: list[Run] = field(default_factory=list)
    sizes: dict[str, int] = field(default_factory=dict)
    changed: dict[str, list[int]] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)
    not_executed: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    checked: list[str] = field(default_factory=list)
    large: list[Run] = field(default_factory=list)
    """lifeboat alone with four times the data."""


def say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} bench: {text}", file=sys.stderr, flush=True)


class Settle:
    """Waits after the removal of many files: for a minute ext4 without a journal passes over inodes that were just freed, one by
    one, and whoever makes files in that time pays for it."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.last = time.monotonic()

    def removed(self) -> None:
        os.sync()
        self.last = time.monotonic()

    def wait(self) -> None:
        time.sleep(max(0.0, self.last + self.seconds - time.monotonic()))


@dataclass(frozen=True)
class Conditions:
    """The same for every tool."""

    quiet: machine.Quiet
    settle: Settle
    cold: bool


class Rounds:
    """Runs the tools of one subject."""

    def __init__(self, bench: Bench, subject: Subject, tools: list[Tool], results: Results, conditions: Conditions) -> None:
        self.bench = bench
        self.subject = subject
        self.tools = tools
        self.results = results
        self.conditions = conditions

    def one_round(self, number: int) -> None:
        self.conditions.quiet.begin_round(self.bench.work)
        turn = number % len(self.tools)
        order = self.tools[turn:] + self.tools[:turn]
        for tool in list(order):
            self.guarded(tool, "prepare", order, tool.prepare)
        for phase in BACKUPS:
            if phase is Phase.CHANGED:
                self.change(number)
            for tool in list(order):
                self.guarded(tool, phase.value, order, partial(self.backup, tool, phase, number))
        expected = self.bench.cluster.digest() if number == 0 and self.subject is not Subject.FILESTORE else ""
        for tool in list(order):
            self.guarded(tool, Phase.RESTORE.value, order, partial(self.restore, tool, number, expected))
        self.references(number)
        for tool in self.tools:
            remove(self.bench.work / f"{tool.home.name}-restored")
            tool.cleanup()
        self.bench.filestore.revert()
        self.conditions.settle.removed()

    def guarded(self, tool: Tool, what: str, order: list[Tool], step: Callable[[], None]) -> None:
        """A tool that fails is out of the run, and the run has failed; the others still tell something."""
        try:
            step()
        except ToolFailed as error:
            say(f"{tool.key}: {what} FAILED: {error}")
            self.results.failures.append(f"{tool.key}: {what}: {error}")
            order.remove(tool)
            self.tools.remove(tool)
            tool.cleanup()

    def change(self, number: int) -> None:
        changed = 0
        if self.subject is not Subject.FILESTORE:
            changed += self.bench.cluster.change(seed=1000 + number).bytes
        if self.subject is not Subject.CLUSTER:
            changed += self.bench.filestore.change(seed=1000 + number)
        self.results.changed.setdefault(self.subject.value, []).append(changed)
        say(f"{self.subject.value}: changed {changed / 1e6:.1f} MB")

    def backup(self, tool: Tool, phase: Phase, number: int) -> None:
        command = tool.backup(phase)
        if command is None:
            return
        tool.before_backup(phase)
        stored = tool.stored()
        self.warm_sources()
        usage = self.timed(tool, command, phase.value)
        tool.after_backup(phase)
        self.keep(tool, phase.value, number, usage, tool.stored() - stored)

    def restore(self, tool: Tool, number: int, expected: str) -> None:
        target = self.bench.work / f"{tool.home.name}-restored"
        tool.before_restore(target)
        self.cache(tool.home)
        usage = self.timed(tool, tool.restore(target), Phase.RESTORE.value)
        self.keep(tool, Phase.RESTORE.value, number, usage, None)
        self.check(tool, tool.restored(target), thorough=number == 0 and tool.is_backup, expected=expected)

    def check(self, tool: Tool, restored: Path, thorough: bool, expected: str) -> None:
        cluster, filestore = self.bench.cluster, self.bench.filestore
        trees = {
            Subject.CLUSTER: (restored, None),
            Subject.FILESTORE: (None, restored),
            Subject.WHOLE: (restored, restored.parent / "filestore"),
        }
        pgdata, files = trees[self.subject]
        if pgdata is not None:
            cluster.check(pgdata, expected) if thorough else cluster.check_size(pgdata)
        if files is not None:
            filestore.check(files) if thorough else filestore.check_size(files)
        if thorough:
            self.results.checked.append(tool.key)

    def references(self, number: int) -> None:
        for tool in self.tools:
            if isinstance(tool, Floor):
                for name, command in tool.references().items():
                    self.warm_sources()
                    usage = self.timed(tool, command, name)
                    self.keep(tool, REFERENCE, number, usage, None, row=name)
                remove(self.bench.work / f"{self.subject.value}-copy")

    def timed(self, tool: Tool, command: Command, what: str) -> Usage:
        self.conditions.settle.wait()
        server = tool.server()
        usage = run(command, self.bench.log, server.pid() if server else None)
        self.conditions.quiet.watch(f"{tool.key} {what}", usage.wall, usage.foreign, usage.stolen)
        return usage

    def keep(self, tool: Tool, phase: str, number: int, usage: Usage, stored: int | None, row: str | None = None) -> None:
        self.results.runs.append(Run(self.subject, row or tool.name, phase, number, usage, stored))
        shown = "" if stored is None else f", {stored / 1e6:.1f} MB stored"
        say(f"round {number + 1} {tool.key}: {phase} {usage.wall:.2f} s, cpu {usage.cpu:.1f} s, {usage.peak_rss >> 20} MiB{shown}")

    def warm_sources(self) -> None:
        if self.conditions.cold:
            drop_caches()
            return
        if self.subject is not Subject.FILESTORE:
            self.bench.cluster.warm()
        if self.subject is not Subject.CLUSTER:
            self.bench.filestore.warm()

    def cache(self, folder: Path) -> None:
        if self.conditions.cold:
            drop_caches()
        else:
            read_all(folder)


def drop_caches() -> None:
    os.sync()
    DROP_CACHES.write_text("3\n", "ascii")


def input_sizes(bench: Bench, results: Results) -> None:
    if bench.cluster.golden.exists():
        results.sizes["cluster"] = disk_bytes(bench.cluster.golden, leave_out=("pg_wal",))
    if bench.filestore.root.exists():
        results.sizes["filestore"] = disk_bytes(bench.filestore.root)
        results.sizes["filestore_files"] = bench.filestore.count
