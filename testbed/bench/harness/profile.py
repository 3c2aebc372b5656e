"""Where lifeboat's time goes: each step once under perf, then the functions with the most samples."""

from .measure import Command, ToolFailed, call
from .rounds import say
from .tools import Bench, Phase, Subject, all_tools
from .tools.base import BACKUPS

FREQUENCY = "999"
LINES = 30


def profile(bench: Bench, subjects: list[Subject]) -> str:
    """A text with the hottest functions of each step."""
    shown = []
    for subject in subjects:
        lifeboat = all_tools(bench, subject)[0]
        lifeboat.prepare()
        try:
            for phase in BACKUPS:
                if phase is Phase.CHANGED:
                    bench.cluster.change(seed=7) if subject is Subject.CLUSTER else bench.filestore.change(seed=7)
                command = lifeboat.backup(phase)
                if command is not None:
                    shown.append(hottest(bench, f"{subject.value}, {phase.value}", command))
            target = bench.work / "profiled"
            shown.append(hottest(bench, f"{subject.value}, restore", lifeboat.restore(target)))
        finally:
            lifeboat.cleanup()
            bench.filestore.revert()
    return "\n\n".join(shown)


def hottest(bench: Bench, what: str, command: Command) -> str:
    say(f"profiling {what}")
    data = bench.work / "perf.data"
    call(
        Command(["perf", "record", "-e", "cpu-clock", "-F", FREQUENCY, "-o", str(data), "--", *command.argv], env=command.env),
        bench.log,
    )
    kept = bench.state / "results" / f"perf-{what.replace(',', '').replace(' ', '-').replace('%', 'percent')}.data"
    kept.parent.mkdir(exist_ok=True)
    shares = ["--stdio", "--percent-limit", "0.7", "--sort", "dso,symbol"]
    try:
        text = call(Command(["perf", "report", "-i", str(data), *shares]), bench.log)
    except ToolFailed as error:
        return f"{what}: perf report failed: {error}"
    data.replace(kept)
    lines = [line.rstrip() for line in text.splitlines() if line.strip() and not line.startswith("#")]
    return "\n".join([f"{what} (share of samples over all threads)", *lines[:LINES]])
