"""What the machine can do at all: reading, copying, and compressing into a flushed file."""

from pathlib import Path
from shlex import quote

from ..measure import Command, call
from .base import Bench, Phase, Subject, Tool, shell


class Floor(Tool):
    """`tar | zstd -3 -T2` to a file and back: no encryption, no deduplication, no hashing."""

    name = "zstd -3 -T2 (floor)"
    note = "tar | zstd -3 -T2 into one file, in full each time; zstd -d | tar x to restore: no encryption, deduplication or integrity beyond zstd's checksum"
    is_backup = False

    def __init__(self, bench: Bench, subject: Subject) -> None:
        super().__init__(bench, subject, "floor")
        self.source = bench.cluster.data if subject is Subject.CLUSTER else bench.filestore.root
        self.file = self.home / "data.tar.zst"

    def version(self) -> str:
        return call(Command(["zstd", "--version"]), self.bench.log).strip(" *\n")

    def backup(self, phase: Phase) -> Command | None:
        if phase not in (Phase.FIRST, Phase.CHANGED):
            return None
        # The server may still write its statistics; tar tells by exit code 1, which is no failure here.
        read = f"{{ tar -C {quote(str(self.source))} --exclude=./pg_wal --exclude=./postmaster.pid -cf - . || [ $? = 1 ]; }}"
        return shell(f"{read} | zstd -3 -T2 -q -f -o {quote(str(self.file))}; sync {quote(str(self.file))}")

    def before_backup(self, phase: Phase) -> None:
        self.file.unlink(missing_ok=True)  # each is a full one

    def stored(self) -> int:
        return 0 if not self.file.exists() else self.file.stat().st_size

    def restore(self, target: Path) -> Command:
        return shell(f"mkdir {quote(str(target))}; zstd -dqc {quote(str(self.file))} | tar -C {quote(str(target))} -xf -")

    def server(self) -> None:
        return None

    def references(self) -> dict[str, Command]:
        """Work that is no backup, timed once a round."""
        source, copy = quote(str(self.source)), quote(str(self.bench.work / f"{self.subject.value}-copy"))
        return {
            "read to null": shell(f"find {source} -type f -print0 | xargs -0 cat >/dev/null"),
            "cp -a and flush": shell(f"cp -a {source} {copy}; sync {copy}"),
        }
