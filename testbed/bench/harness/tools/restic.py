"""restic with its defaults on a local repository."""

from pathlib import Path

from ..files import disk_bytes
from ..measure import Command, call
from .base import Bench, Phase, Subject, Tool


class Restic(Tool):
    """Content-defined chunks, zstd where it helps, AES-256-CTR with Poly1305."""

    name = "restic"
    note = "defaults (compression auto)"

    def __init__(self, bench: Bench) -> None:
        super().__init__(bench, Subject.FILESTORE, "restic")
        self.env = {
            "RESTIC_REPOSITORY": str(self.home / "repo"),
            "RESTIC_PASSWORD": "only-for-the-benchmark",
            "RESTIC_CACHE_DIR": str(self.home / "cache"),
        }

    def version(self) -> str:
        return call(Command(["restic", "version"]), self.bench.log).strip()

    def prepare(self) -> None:
        super().prepare()
        call(Command(["restic", "init", "-q"], env=self.env), self.bench.log)

    def backup(self, phase: Phase) -> Command:
        return Command(["restic", "backup", "-q", str(self.bench.filestore.root)], env=self.env)

    def restore(self, target: Path) -> Command:
        return Command(["restic", "restore", "-q", "latest", "--target", str(target)], env=self.env)

    def restored(self, target: Path) -> Path:
        return target / self.bench.filestore.root.relative_to("/")

    def stored(self) -> int:
        return disk_bytes(self.home / "repo")
