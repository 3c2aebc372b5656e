"""What is run, how big and how often: arguments first, then the environment, then defaults."""

import argparse
import os
from dataclasses import dataclass
from pathlib import Path

ALL_SUBJECTS = ("cluster", "filestore", "wal")
BACKED_UP = ALL_SUBJECTS[:2]


@dataclass(frozen=True)
class Settings:
    """One run of the benchmark."""

    state: Path
    rounds: int
    scale: int
    """pgbench's scale; 100 is 10 million rows."""
    text_megabytes: int
    """Of text and jsonb beside pgbench's tables."""
    files: int
    file_kilobytes: int
    """Mean size of a file."""
    wal_megabytes: int
    """WAL that is drained from a slot."""
    replay_megabytes: int
    """WAL that a restore replays."""
    cold: bool
    """Drop the page cache before each timed run, instead of reading the input once."""
    subjects: tuple[str, ...]
    tools: tuple[str, ...]
    """Only these tools; empty for all."""
    large: bool
    profile: bool
    quick: bool
    notes: tuple[str, ...]
    """What the starter could not provide and why."""

    @property
    def backed_up(self) -> tuple[str, ...]:
        """The subjects that are backed up and restored by all tools in turns; the others have an order of their own."""
        return tuple(name for name in self.subjects if name in BACKED_UP)

    @property
    def data(self) -> Path:
        """Generated input, kept between runs."""
        return self.state / "data"

    @property
    def work(self) -> Path:
        """Repositories, restored trees and sockets of this run; emptied at its begin and end."""
        return self.state / "work"


def number(name: str, default: int) -> int:
    text = os.environ.get(name, "")
    if not text:
        return default
    if not text.isdigit() or int(text) == 0:
        raise SystemExit(f"bench: {name}={text}: a whole number above 0 is wanted")
    return int(text)


def words(name: str) -> tuple[str, ...]:
    return tuple(os.environ.get(name, "").split())


def parse(arguments: list[str]) -> Settings:
    """Reads the arguments of `testbed/bench/run`."""
    parser = argparse.ArgumentParser(prog="testbed/bench/run", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the data, one round: does it all work?")
    parser.add_argument("--large", action="store_true", help="also the peak memory of lifeboat with about 10 GB")
    parser.add_argument("--profile", action="store_true", help="only lifeboat, under perf: where the time goes")
    parser.add_argument("--cold", action="store_true", help="drop the page cache before each timed run")
    parser.add_argument("--only", choices=ALL_SUBJECTS, help="only the cluster, the filestore or continuous WAL")
    chosen = parser.parse_args(arguments)
    size = 10 if chosen.quick else 1
    return Settings(
        state=Path("/bench"),
        rounds=number("ROUNDS", 1 if chosen.quick else 3),
        scale=number("BENCH_SCALE", 100 // size),
        text_megabytes=number("BENCH_TEXT_MB", 600 // size),
        files=number("BENCH_FILES", 50_000 // size),
        file_kilobytes=number("BENCH_FILE_KB", 50),
        wal_megabytes=number("BENCH_WAL_MB", 256 if chosen.quick else 2048),
        replay_megabytes=number("BENCH_REPLAY_MB", 512 if chosen.quick else 5120),
        cold=chosen.cold,
        subjects=(chosen.only,) if chosen.only else ALL_SUBJECTS,
        tools=words("BENCH_TOOLS"),
        large=chosen.large,
        profile=chosen.profile,
        quick=chosen.quick,
        notes=tuple(line for line in os.environ.get("BENCH_NOTES", "").splitlines() if line),
    )
