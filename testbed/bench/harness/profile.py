"""Where lifeboat's time goes: each step once under perf, then the functions with the most samples."""

from collections.abc import Iterator

from .files import remove
from .measure import Command, ToolFailed, call
from .rounds import say
from .tools import Bench, Phase, Subject, all_tools
from .tools.base import BACKUPS

FREQUENCY = "999"
LINES = 24


def profile(bench: Bench, subjects: list[Subject]) -> Iterator[str]:
    """The hottest functions of each step."""
    for subject in subjects:
        lifeboat = all_tools(bench, subject)[0]
        lifeboat.prepare()
        try:
            for phase in BACKUPS:
                if phase is Phase.CHANGED:
                    bench.cluster.change(seed=7) if subject is Subject.CLUSTER else bench.filestore.change(seed=7)
                command = lifeboat.backup(phase)
                if command is not None:
                    yield hottest(bench, f"{subject.value}, {phase.value}", command)
            target = bench.work / "profiled"
            yield hottest(bench, f"{subject.value}, restore", lifeboat.restore(target))
            remove(target)
        finally:
            lifeboat.cleanup()
            bench.filestore.revert()


def hottest(bench: Bench, what: str, command: Command) -> str:
    say(f"profiling {what}")
    data = bench.work / "perf.data"
    call(
        Command(["perf", "record", "-e", "cpu-clock", "-F", FREQUENCY, "-o", str(data), "--", *command.argv], env=command.env),
        bench.log,
    )
    kept = bench.state / "results" / f"perf-{what.replace(',', '').replace(' ', '-').replace('%', 'percent')}.data"
    kept.parent.mkdir(exist_ok=True)
    try:
        text = call(Command(["perf", "report", "-i", str(data), "--stdio", "-t", ";", "-F", "overhead,dso,sym"]), bench.log)
    except ToolFailed as error:
        return f"{what}: perf report failed: {error}"
    data.replace(kept)
    return "\n".join([f"{what} (share of samples over all threads)", *largest(text)])


def largest(report: str) -> list[str]:
    """The functions with the most samples; what a library keeps no names of is one line for each library."""
    shares: dict[tuple[str, str], float] = {}
    for line in report.splitlines():
        parts = [part.strip() for part in line.split(";")]
        if line.startswith("#") or len(parts) < 3 or not parts[0].endswith("%"):
            continue
        symbol = parts[2].partition("] ")[2]
        key = (parts[1], "(no names)" if symbol.startswith("0x") else symbol)
        shares[key] = shares.get(key, 0.0) + float(parts[0].rstrip("%"))
    found = sorted(shares.items(), key=lambda item: -item[1])[:LINES]
    return [f"  {share:6.2f} %  {library:18} {symbol}" for (library, symbol), share in found]
