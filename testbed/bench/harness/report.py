"""Tables for people, JSON for machines. A ratio is always the other tool's median over lifeboat's: above 1, lifeboat is better."""

import statistics
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from .rounds import Results, Run
from .tools import Phase, Subject
from .tools.wal import LOCAL, RECEIVER, WalPhase

US = "lifeboat"
MIB = 1 << 20
RSS_LIMIT = 256 * MIB


@dataclass(frozen=True)
class Spread:
    """Median, smallest and largest of several rounds."""

    median: float
    low: float
    high: float


def spread(values: Iterable[float]) -> Spread | None:
    found = list(values)
    return Spread(statistics.median(found), min(found), max(found)) if found else None


class Table:
    """The runs, by subject, phase and tool."""

    def __init__(self, results: Results) -> None:
        self.results = results

    def runs(self, subject: Subject, phase: str, tool: str) -> list[Run]:
        return [run for run in self.results.runs if (run.subject, run.phase, run.tool) == (subject, phase, tool)]

    def tools(self, subject: Subject, phase: str) -> list[str]:
        return list(
            dict.fromkeys(run.tool for run in sorted(self.of(subject), key=lambda run: run.tool != US) if run.phase == phase)
        )

    def of(self, subject: Subject) -> list[Run]:
        return [run for run in self.results.runs if run.subject is subject]

    def phases(self, subject: Subject) -> list[str]:
        order = [phase.value for phase in (*Phase, *WalPhase)]
        return sorted(
            dict.fromkeys(run.phase for run in self.of(subject)), key=lambda phase: order.index(phase) if phase in order else 99
        )

    def value(self, subject: Subject, phase: str, tool: str, of: Callable[[Run], float]) -> Spread | None:
        return spread(of(run) for run in self.runs(subject, phase, tool))

    def stored(self, subject: Subject, phase: str, tool: str) -> Spread | None:
        return spread(run.stored for run in self.runs(subject, phase, tool) if run.stored is not None)


HEADER = f"{'':26}{'wall s':>8}{'min–max':>15}{'ratio':>7}{'cpu s':>8}{'ratio':>7}{'server':>8}{'peak RSS':>10}{'ratio':>7}{'stored MB':>11}{'ratio':>7}"


def ratio(other: Spread | None, ours: Spread | None) -> str:
    if other is None or ours is None or ours.median <= 0:
        return "–"
    quotient = other.median / ours.median
    return f"{quotient:.0f}×" if quotient >= 100 else f"{quotient:.2f}×"


def row(table: Table, subject: Subject, phase: str, tool: str) -> str:
    def column(of: Callable[[Run], float]) -> tuple[Spread, str]:
        mine, ours = table.value(subject, phase, tool, of), table.value(subject, phase, US, of)
        assert mine is not None  # a row exists only for what ran
        return mine, ratio(mine, ours)

    wall, wall_ratio = column(lambda run: run.usage.wall)
    cpu, cpu_ratio = column(lambda run: run.usage.cpu)
    server, _ = column(lambda run: run.usage.server_cpu)
    rss, rss_ratio = column(lambda run: run.usage.peak_rss)
    stored = table.stored(subject, phase, tool)
    stored_ratio = ratio(stored, table.stored(subject, phase, US))
    between = f"{wall.low:.2f}–{wall.high:.2f}"
    kept = f"{stored.median / 1e6:.1f}" if stored else "–"
    return (
        f"  {tool:24}{wall.median:8.2f}{between:>15}{wall_ratio:>7}{cpu.median:8.2f}{cpu_ratio:>7}{server.median:8.2f}"
        f"{rss.median / MIB:7.0f} MiB{rss_ratio:>6}{kept:>11}{stored_ratio:>7}"
    )


TITLES = {
    Subject.CLUSTER: "PostgreSQL cluster",
    Subject.FILESTORE: "filestore",
    Subject.WHOLE: "cluster and filestore in one recovery point",
    Subject.WAL: "continuous WAL",
}


def tables(results: Results) -> str:
    table, lines = Table(results), []
    for subject in Subject:
        if not table.of(subject):
            continue
        lines += ["", f"== {TITLES[subject]}: {describe_input(results, subject)}"]
        for phase in table.phases(subject):
            lines += ["", f"{phase:26}{HEADER[26:]}"]
            lines += [row(table, subject, phase, tool) for tool in table.tools(subject, phase)]
    return "\n".join(lines)


def describe_input(results: Results, subject: Subject) -> str:
    sizes, changed = results.sizes, results.changed.get(subject.value, [0])
    if subject is Subject.WAL:
        return f"{sizes.get('wal', 0) / 1e6:,.0f} MB drained, {sizes.get('wal_replayed', 0) / 1e6:,.0f} MB replayed"
    cluster, files = (
        f"{sizes['cluster'] / 1e6:,.0f} MB without WAL",
        f"{sizes['filestore_files']:,} files, {sizes['filestore'] / 1e6:,.0f} MB",
    )
    shown = {Subject.CLUSTER: cluster, Subject.FILESTORE: files, Subject.WHOLE: f"{cluster}; {files}"}[subject]
    return f"{shown}; changed {statistics.median(changed) / 1e6:,.1f} MB"


def memory(results: Results) -> list[str]:
    """Peak resident memory of backup and restore by the size of the input."""
    lines = []
    for what, size, runs in (
        ("cluster", results.sizes.get("cluster", 0), [run for run in results.runs if run.subject is Subject.CLUSTER]),
        ("filestore", results.sizes.get("filestore", 0), [run for run in results.runs if run.subject is Subject.FILESTORE]),
        (
            "both",
            results.sizes.get("cluster", 0) + results.sizes.get("filestore", 0),
            [run for run in results.runs if run.subject is Subject.WHOLE],
        ),
        ("wal", results.sizes.get("wal_replayed", 0), [run for run in results.runs if run.subject is Subject.WAL]),
        ("large cluster", results.sizes.get("large_cluster", 0), results.large),
    ):
        for phase in dict.fromkeys(run.phase for run in runs):
            peaks = [run.usage.peak_rss / MIB for run in runs if run.tool == US and run.phase == phase]
            if peaks:
                verdict = "" if max(peaks) * MIB <= RSS_LIMIT else "  ABOVE THE LIMIT"
                lines.append(f"  {what:14}{size / 1e6:8,.0f} MB  {phase:26}{max(peaks):5.0f} MiB{verdict}")
    return lines or ["  not executed"]


@dataclass(frozen=True)
class Aim:
    """One number that was aimed at."""

    text: str
    reached: float | None
    """None: not measured."""
    limit: float
    at_least: bool

    def line(self) -> str:
        if self.reached is None:
            return f"  not executed  {self.text}"
        good = self.reached >= self.limit if self.at_least else self.reached <= self.limit
        return f"  {'reached' if good else 'MISSED':12}  {self.text}: {self.reached:.2f} ({'at least' if self.at_least else 'at most'} {self.limit:g})"


def aims(results: Results) -> list[Aim]:
    table = Table(results)
    cluster, filestore = Subject.CLUSTER, Subject.FILESTORE

    def wall(subject: Subject, phase: Phase | WalPhase, tool: str) -> float | None:
        found = table.value(subject, phase.value, tool, lambda run: run.usage.wall)
        return found.median if found else None

    def stored(subject: Subject, phase: Phase, tool: str) -> float | None:
        found = table.stored(subject, phase.value, tool)
        return found.median if found else None

    def over(one: float | None, other: float | None) -> float | None:
        return one / other if one is not None and other else None

    changed = results.changed.get(cluster.value)
    peers = ("pgBackRest", "pgBackRest bundle+block")
    fastest = min((found for tool in peers if (found := wall(cluster, Phase.FIRST, tool))), default=None)
    smallest = min((found for tool in peers if (found := stored(cluster, Phase.FIRST, tool))), default=None)
    quickest = min((found for tool in peers if (found := wall(cluster, Phase.RESTORE, tool))), default=None)
    peak = max((run.usage.peak_rss for run in [*results.runs, *results.large] if run.tool == US), default=None)
    return [
        Aim(
            "cluster, first backup: speed against pgBackRest's better way", over(fastest, wall(cluster, Phase.FIRST, US)), 1.1, True
        ),
        Aim(
            "cluster, first backup: stored bytes over pgBackRest's fewest",
            over(stored(cluster, Phase.FIRST, US), smallest),
            1.0,
            False,
        ),
        Aim(
            "cluster, 1 % changed: time over our first",
            over(wall(cluster, Phase.CHANGED, US), wall(cluster, Phase.FIRST, US)),
            0.7,
            False,
        ),
        Aim(
            "cluster, 1 % changed: stored over changed bytes",
            over(stored(cluster, Phase.CHANGED, US), statistics.median(changed) if changed else None),
            3,
            False,
        ),
        Aim("cluster, restore: speed against pgBackRest's better way", over(quickest, wall(cluster, Phase.RESTORE, US)), 1.2, True),
        Aim(
            "filestore, first backup: speed against restic",
            over(wall(filestore, Phase.FIRST, "restic"), wall(filestore, Phase.FIRST, US)),
            2,
            True,
        ),
        Aim(
            "filestore, restore: speed against restic",
            over(wall(filestore, Phase.RESTORE, "restic"), wall(filestore, Phase.RESTORE, US)),
            1.5,
            True,
        ),
        Aim("filestore, unchanged: seconds", wall(filestore, Phase.UNCHANGED, US), 1.0, False),
        Aim(
            "WAL, drain of a slot: speed against pg_receivewal",
            over(wall(Subject.WAL, WalPhase.DRAIN, RECEIVER), wall(Subject.WAL, WalPhase.DRAIN, US)),
            1.0,
            True,
        ),
        Aim(
            "WAL, replay while it is fetched: time over that from a local directory",
            over(wall(Subject.WAL, WalPhase.REPLAY, US), wall(Subject.WAL, WalPhase.REPLAY, LOCAL)),
            1.15,
            False,
        ),
        Aim("peak RSS of lifeboat anywhere, MiB", peak / MIB if peak else None, RSS_LIMIT / MIB, False),
    ]


def summary(results: Results) -> list[dict[str, object]]:
    """Medians for the JSON."""
    table, found = Table(results), []
    for subject in Subject:
        for phase in table.phases(subject):
            for tool in table.tools(subject, phase):
                entry: dict[str, object] = {"subject": subject.value, "phase": phase, "tool": tool}
                for name in ("wall", "command", "cpu", "server_cpu", "peak_rss"):
                    value = spread(getattr(run.usage, name) for run in table.runs(subject, phase, tool))
                    entry[name] = vars(value) if value else None
                stored = table.stored(subject, phase, tool)
                entry["stored"] = vars(stored) if stored else None
                found.append(entry)
    return found
