"""rustic, which reads and writes restic's repositories, with its defaults."""

from pathlib import Path

from ..files import disk_bytes
from ..measure import Command, call
from .base import Bench, Phase, Subject, Tool


class Rustic(Tool):
    """Built by cargo in `run`; the benchmark's image has no Debian package of it."""

    name = "rustic"
    note = "defaults; built by cargo install without the optional features (terminal UI, WebDAV, metrics)"

    def __init__(self, bench: Bench) -> None:
        super().__init__(bench, Subject.FILESTORE, "rustic")
        self.program = bench.state / "tools" / "bin" / "rustic"
        self.env = {
            "RUSTIC_REPOSITORY": str(self.home / "repo"),
            "RUSTIC_PASSWORD": "only-for-the-benchmark",
            "RUSTIC_CACHE_DIR": str(self.home / "cache"),
            "RUSTIC_NO_PROGRESS": "true",
            "RUSTIC_LOG_LEVEL": "warn",
        }

    def missing(self) -> str | None:
        return None if self.program.exists() else f"{self.program} is not there; see the notes above"

    def version(self) -> str:
        return call(Command([str(self.program), "--version"]), self.bench.log).strip()

    def prepare(self) -> None:
        super().prepare()
        call(Command([str(self.program), "init"], env=self.env), self.bench.log)

    def backup(self, phase: Phase) -> Command:
        return Command([str(self.program), "backup", str(self.bench.filestore.root)], env=self.env)

    def restore(self, target: Path) -> Command:
        return Command([str(self.program), "restore", f"latest:{self.bench.filestore.root}", str(target)], env=self.env)

    def stored(self) -> int:
        return disk_bytes(self.home / "repo")
