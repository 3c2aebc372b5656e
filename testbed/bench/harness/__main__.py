"""`python3 -m harness` inside the benchmark's container: prepares the input, runs the rounds, prints and keeps the results."""

import json
import os
import sys
import time
from dataclasses import asdict
from pathlib import Path

from . import machine, report
from .cluster import Beside, Cluster
from .files import emptied, remove
from .filestore import Filestore
from .measure import ToolFailed
from .profile import profile
from .rounds import Conditions, Results, Rounds, Settle, input_sizes, say
from .settings import Settings, parse
from .tools import Bench, Subject, Tool, all_tools
from .wal import Wal

LARGER = 4
SETTLE_SECONDS = 75


def prepare(settings: Settings) -> Bench:
    settings.data.mkdir(parents=True, exist_ok=True)
    emptied(settings.work)
    log = settings.state / "last.log"
    log.write_bytes(b"")
    log.chmod(0o666)
    bench = Bench(
        work=settings.work,
        state=settings.state,
        log=log,
        cluster=Cluster(settings.data, settings.work, log, settings.scale, settings.text_megabytes),
        filestore=Filestore(settings.data, settings.files, settings.file_kilobytes),
        beside=Beside(settings.work, log),
    )
    if settings.backed_up:
        say(f"input: pgbench scale {settings.scale} and {settings.text_megabytes} MB of text and jsonb; {settings.files:,} files")
        bench.cluster.make()
        bench.filestore.make()
    if Subject.CLUSTER.value in settings.subjects:
        bench.cluster.open()
    if Subject.FILESTORE.value in settings.subjects:
        bench.beside.open()
    return bench


def usable(tools: list[Tool], settings: Settings, results: Results) -> list[Tool]:
    """The tools that are here and wanted; why the others are not is part of the result."""
    found = []
    for tool in tools:
        if settings.tools and tool.name not in settings.tools:
            continue
        reason = tool.missing()
        if reason is not None:
            results.not_executed.append(f"{tool.key}: {reason}")
            continue
        results.versions[tool.name] = tool.version()
        results.notes[tool.key] = tool.note
        found.append(tool)
    return found


def measure(settings: Settings, bench: Bench, results: Results, conditions: Conditions) -> None:
    subjects = [Subject(name) for name in settings.backed_up] + ([Subject.WHOLE] if len(settings.backed_up) > 1 else [])
    tools = {subject: usable(all_tools(bench, subject), settings, results) for subject in subjects}
    for number in range(settings.rounds):
        for subject in subjects:
            if tools[subject] and not (subject is Subject.WHOLE and number > 0):
                Rounds(bench, subject, tools[subject], results, conditions).one_round(number)
    for tool in (tool for some in tools.values() for tool in some):
        results.remarks += [remark for remark in getattr(tool, "remarks", []) if remark not in results.remarks]


def continuous(settings: Settings, bench: Bench, results: Results, quiet: machine.Quiet) -> None:
    """WAL has a server and an order of its own."""
    for server in (bench.cluster.server, bench.beside.server):
        if server.pid() is not None:
            server.stop()
    wal = Wal(bench, settings, results, quiet)
    try:
        if settings.profile:
            print(f"\n{wal.profile()}", flush=True)
        else:
            wal.measure()
    finally:
        wal.close()


def large(settings: Settings, bench_of_all: Bench, results: Results, conditions: Conditions) -> None:
    """Peak memory of lifeboat alone with four times the data, about 10 GB; it is made anew each time."""
    say("10 GB: making the input")
    if bench_of_all.cluster.server.pid() is not None:
        bench_of_all.cluster.server.stop()
    work = emptied(settings.work / "large")
    log = settings.state / "last.log"
    cluster = Cluster(settings.data, work, log, settings.scale * LARGER, settings.text_megabytes * LARGER)
    cluster.make()
    cluster.open(consume=True)
    try:
        bench = Bench(
            work, settings.state, log, cluster, Filestore(settings.data, settings.files, settings.file_kilobytes), Beside(work, log)
        )
        tools = [tool for tool in all_tools(bench, Subject.CLUSTER) if tool.name == report.US]
        found = Results()
        Rounds(bench, Subject.CLUSTER, tools, found, conditions).one_round(0)
        results.failures += found.failures
        results.sizes["large_cluster"] = cluster.bytes()
        results.large = found.runs
    finally:
        cluster.server.stop()
        remove(work)


def conclude(settings: Settings, results: Results, quiet: machine.Quiet, started: float) -> None:
    print(report.tables(results))
    print("\npeak memory of lifeboat")
    for line in report.memory(results):
        print(line)
    print("\naims")
    for aim in report.aims(results):
        print(aim.line())
    heading("how to read it", reading(settings, results))
    heading("rows", [f"{key}: {note} ({results.versions[key.partition('/')[2]]})" for key, note in results.notes.items()])
    heading(
        "not executed",
        [*settings.notes, *results.not_executed, *([] if settings.large else ["peak memory with 10 GB: ask for it with --large"])],
    )
    heading("remarks", results.remarks)
    heading("WARNING: the machine was not quiet", quiet.warnings())
    heading("FAILED", results.failures)
    path = keep(settings, results, quiet, started)
    print(f"\nJSON: {path}")


def reading(settings: Settings, results: Results) -> list[str]:
    cache = "page cache dropped before each timed run" if settings.cold else "hot: the input was read once before each timed run"
    return [
        f"medians of {settings.rounds} round(s), interleaved; a ratio is the other's median over lifeboat's, above 1 lifeboat is better",
        f"wall time ends when everything is on the disk (a sync is part of it, for all); page cache {cache}",
        "cpu is user + system of the whole process tree; server is PostgreSQL's own at the same time; RSS is the largest sum over the tree",
        f"restored and checked: {', '.join(results.checked) or 'nothing'}",
    ]


def heading(title: str, lines: list[str]) -> None:
    if lines:
        print(f"\n{title}")
        for line in lines:
            print(f"  {line}")


def keep(settings: Settings, results: Results, quiet: machine.Quiet, started: float) -> str:
    folder = settings.state / "results"
    folder.mkdir(exist_ok=True)
    path = folder / f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime(started))}.json"
    document = {
        "schema": "lifeboat.bench/1",
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(started)),
        "seconds": time.time() - started,
        "settings": {name: str(value) if isinstance(value, Path) else value for name, value in asdict(settings).items()},
        "machine": {**machine.describe(), **quiet.spread()},
        "versions": results.versions,
        "sizes": results.sizes,
        "changed": results.changed,
        "summary": report.summary(results),
        "runs": [run.to_json() for run in results.runs],
        "large": [run.to_json() for run in results.large],
        "aims": [asdict(aim) for aim in report.aims(results)],
        "not_executed": [*settings.notes, *results.not_executed],
        "warnings": quiet.warnings(),
        "failures": results.failures,
        "remarks": results.remarks,
    }
    path.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", "utf-8")
    shown = Path(os.environ.get("BENCH_STATE_OUTSIDE", str(settings.state)))
    return str(shown / path.relative_to(settings.state))


def main() -> int:
    settings, started = parse(sys.argv[1:]), time.time()
    results, quiet = Results(), machine.Quiet()
    conditions = Conditions(quiet, Settle(0 if settings.quick else SETTLE_SECONDS), settings.cold)
    bench = None
    try:
        bench = prepare(settings)
        input_sizes(bench, results)
        if settings.profile:
            for text in profile(bench, [Subject(name) for name in settings.backed_up]):
                print(f"\n{text}", flush=True)
        else:
            measure(settings, bench, results, conditions)
        if Subject.WAL.value in settings.subjects:
            continuous(settings, bench, results, quiet)
        if settings.large:
            large(settings, bench, results, conditions)
    except ToolFailed as error:
        say(f"FAILED: {error}")
        results.failures.append(str(error))
    finally:
        if bench is not None:
            bench.cluster.server.kill_if_running()
            bench.beside.server.kill_if_running()
    if results.runs:
        conclude(settings, results, quiet, started)
    if bench is not None:
        bench.filestore.revert()
        remove(settings.work)
    return 1 if results.failures else 0


if __name__ == "__main__":
    sys.exit(main())
