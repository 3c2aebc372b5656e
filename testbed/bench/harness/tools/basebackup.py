"""pg_basebackup, with PostgreSQL 17's incremental backups for the later ones."""

from pathlib import Path
from shlex import quote

from ..measure import Command, call
from ..server import USER, give_to_server
from .base import Bench, Phase, Subject, Tool, shell

ORDER = (Phase.FIRST, Phase.UNCHANGED, Phase.CHANGED)


class BaseBackup(Tool):
    """One folder for each backup; a restore is a copy, or pg_combinebackup over the chain."""

    def __init__(self, bench: Bench, *, packed: bool) -> None:
        super().__init__(bench, Subject.CLUSTER, "basebackup-packed" if packed else "basebackup")
        self.packed = packed
        self.name = "pg_basebackup tar+zstd" if packed else "pg_basebackup"
        form = "tar, client-zstd:level=3,workers=2" if packed else "plain"
        self.note = (
            f"{form}, WAL streamed; not encrypted; later backups are incremental (PostgreSQL 17), restored by pg_combinebackup"
        )

    def version(self) -> str:
        return call(Command(["pg_basebackup", "--version"]), self.bench.log).strip()

    def prepare(self) -> None:
        super().prepare()
        give_to_server(self.home)

    def folder(self, phase: Phase) -> Path:
        return self.home / phase.name.lower()

    def backup(self, phase: Phase) -> Command:
        server = self.bench.cluster.server
        argv = [
            "pg_basebackup",
            "-h",
            "127.0.0.1",
            "-p",
            str(server.port),
            "-U",
            "lifeboat",
            "-D",
            str(self.folder(phase)),
            "-X",
            "stream",
            "-c",
            "fast",
        ]
        argv += ["-Ft", "--compress=client-zstd:level=3,workers=2"] if self.packed else ["-Fp"]
        if phase is not Phase.FIRST:
            before = self.folder(ORDER[ORDER.index(phase) - 1])
            argv.append(f"--incremental={before / 'backup_manifest'}")
        return Command(argv, user=USER)

    def restore(self, target: Path) -> Command:
        if not self.packed:
            chain = " ".join(quote(str(self.folder(phase))) for phase in ORDER)
            return shell(f"pg_combinebackup --output={quote(str(target))} {chain}", user=USER)
        unpacked = self.home / "unpacked"
        steps = [f"mkdir -m 700 {quote(str(unpacked))}"]
        for phase in ORDER:
            folder, into = self.folder(phase), unpacked / phase.name.lower()
            steps += [
                f"mkdir -m 700 {quote(str(into))}",
                f"zstd -dqc {quote(str(folder / 'base.tar.zst'))} | tar -C {quote(str(into))} -xf -",
                f"tar -C {quote(str(into / 'pg_wal'))} -xf {quote(str(folder / 'pg_wal.tar'))}",
                f"cp {quote(str(folder / 'backup_manifest'))} {quote(str(into))}/",
            ]
        chain = " ".join(quote(str(unpacked / phase.name.lower())) for phase in ORDER)
        steps.append(f"pg_combinebackup --output={quote(str(target))} {chain}")
        return shell("; ".join(steps), user=USER)
