"""pgBackRest: zstd 3, aes-256-cbc, two processes; with or without bundles and block-incremental backups."""

from pathlib import Path

from ..files import disk_bytes
from ..measure import Command, call
from ..server import USER, give_to_server
from .base import Bench, Phase, Subject, Tool


class PgBackRest(Tool):
    """Runs as the server's user beside the server, as its manual has it."""

    def __init__(self, bench: Bench, *, blocks: bool) -> None:
        super().__init__(bench, Subject.CLUSTER, "pgbackrest-blocks" if blocks else "pgbackrest")
        self.blocks = blocks
        self.name = "pgBackRest bundle+block" if blocks else "pgBackRest"
        extra = ", repo-bundle=y, repo-block=y" if blocks else ""
        self.note = f"zst 3, aes-256-cbc, process-max=2{extra}, start-fast, WAL by archive-push; reads the files, not the replication protocol"
        self.config = self.home / "pgbackrest.conf"

    def version(self) -> str:
        return call(Command(["pgbackrest", "version"], user=USER), self.bench.log).strip()

    def prepare(self) -> None:
        super().prepare()
        give_to_server(self.home)
        for name in ("repo", "spool", "lock", "log"):
            give_to_server(self.home / name)
        server = self.bench.cluster.server
        lines = [
            "[global]",
            f"repo1-path={self.home}/repo",
            "repo1-cipher-type=aes-256-cbc",
            "repo1-cipher-pass=only-for-the-benchmark",
            "repo1-retention-full=9",
            "compress-type=zst",
            "compress-level=3",
            "process-max=2",
            "start-fast=y",
            "log-level-console=warn",
            "log-level-file=off",
            f"spool-path={self.home}/spool",
            f"lock-path={self.home}/lock",
            f"log-path={self.home}/log",
            *(["repo1-bundle=y", "repo1-block=y"] if self.blocks else []),
            "[bench]",
            f"pg1-path={server.data}",
            f"pg1-port={server.port}",
            f"pg1-socket-path={server.sockets}",
            "pg1-database=bench",
        ]
        self.config.write_text("\n".join(lines) + "\n", "ascii")
        self.bench.cluster.archive_to(None)
        call(Command([*self.argv(), "stanza-create"], user=USER), self.bench.log)

    def argv(self) -> list[str]:
        return ["pgbackrest", f"--config={self.config}", "--stanza=bench"]

    def backup(self, phase: Phase) -> Command:
        kind = "full" if phase is Phase.FIRST else "incr"
        return Command([*self.argv(), f"--type={kind}", "backup"], user=USER)

    def before_backup(self, phase: Phase) -> None:
        # What the other tools left in WAL is not this tool's to archive.
        cluster = self.bench.cluster
        cluster.server.ask("SELECT pg_switch_wal()")
        cluster.archive_to(self.config)

    def after_backup(self, phase: Phase) -> None:
        self.bench.cluster.archive_to(None)

    def before_restore(self, target: Path) -> None:
        give_to_server(target)
        target.chmod(0o700)

    def restore(self, target: Path) -> Command:
        how = [f"--pg1-path={target}", "--archive-mode=off", "--type=immediate", "--target-action=promote"]
        return Command([*self.argv(), *how, "restore"], user=USER)

    def stored(self) -> int:
        return disk_bytes(self.home / "repo")
