"""lifeboat, over the replication protocol, on a local repository with its default settings."""

import json
from pathlib import Path

from ..files import disk_bytes
from ..measure import Command, ToolFailed, call
from ..server import Server
from .base import Bench, Phase, Subject, Tool

INSTANCE = "bench"


class Lifeboat(Tool):
    """One recovery point for each backup; the small cluster beside stands in where only the filestore counts."""

    name = "lifeboat"

    def __init__(self, bench: Bench, subject: Subject) -> None:
        super().__init__(bench, subject, "lifeboat")
        self.program = bench.state / "tools" / "bin" / "lifeboat"
        self.config = self.home / "lifeboat.toml"
        self.remarks: list[str] = []
        self.note = "default settings, WAL streamed, evidence recorded" + (
            ", and each time a base backup of a small cluster (about 30 MB): it backs up whole systems"
            if subject is Subject.FILESTORE
            else ""
        )

    def version(self) -> str:
        return call(Command([str(self.program), "--version"]), self.bench.log).strip()

    def missing(self) -> str | None:
        return None if self.program.exists() else f"{self.program} is not there: run `make build`"

    def prepare(self) -> None:
        super().prepare()
        made = self.call("init", str(self.home), "--tenant", "bench", "--instance", INSTANCE, "--json")
        keys = json.loads(made)
        # Per-table digests are beyond what any of the others does; without them the work is the same.
        try:
            self.write_config(keys, "digests = false")
        except ToolFailed:
            self.write_config(keys, "")
            self.remarks = [
                "lifeboat does not know `postgres.digests = false`: its times hold the tables' digests, which no other tool takes"
            ]

    def write_config(self, keys: dict[str, object], extra: str) -> None:
        server = self.source()
        filestore = (
            [f"[instances.{INSTANCE}.filestore]", f'path = "{self.bench.filestore.root}"']
            if self.subject in (Subject.FILESTORE, Subject.WHOLE)
            else []
        )
        lines = [
            'tenant = "bench"',
            "[repository]",
            'path = "repository"',
            "[keys]",
            f"recovery_recipients = {json.dumps(keys['recovery_recipients'])}",
            f"host_identity_file = {json.dumps(keys['host_identity_file'])}",
            f"signing_key_file = {json.dumps(keys['signing_key_file'])}",
            f'trusted_keys = ["{keys["signing_public_key"]}"]',
            f"recovery_identity_file = {json.dumps(keys['recovery_identity_file'])}",
            "[tiers.bench]",
            'rpo = "1h"',
            'rto = "4h"',
            f"[instances.{INSTANCE}]",
            'tier = "bench"',
            f"[instances.{INSTANCE}.postgres]",
            'host = "127.0.0.1"',
            f"port = {server.port}",
            'user = "lifeboat"',
            'tls = "disable"',
            'databases = ["bench"]',
            extra,
            *filestore,
            f"[instances.{INSTANCE}.drill]",
            'postgres_image = "postgres:17"',
            'odoo_image = "odoo:19"',
            "[engine]",
            'state_dir = "state"',
        ]
        self.config.write_text("\n".join(lines) + "\n", "utf-8")
        self.call("--config", str(self.config), "config", "check")

    def source(self) -> Server:
        return self.bench.beside.server if self.subject is Subject.FILESTORE else self.bench.cluster.server

    def server(self) -> Server | None:
        return self.source()

    def call(self, *arguments: str) -> str:
        return call(Command([str(self.program), *arguments]), self.bench.log)

    def command(self, *arguments: str) -> Command:
        return Command([str(self.program), "--config", str(self.config), "--quiet", *arguments])

    def backup(self, phase: Phase) -> Command:
        return self.command("backup", INSTANCE)

    def restore(self, target: Path) -> Command:
        return self.command("restore", INSTANCE, "--point", "latest", "--to", str(target))

    def restored(self, target: Path) -> Path:
        return target / ("filestore" if self.subject is Subject.FILESTORE else "pgdata")

    def stored(self) -> int:
        repository = self.home / "repository"  # the first backup makes it
        return disk_bytes(repository) if repository.exists() else 0


class LifeboatWhole(Lifeboat):
    """Cluster and filestore in one recovery point, as it is used."""

    def __init__(self, bench: Bench) -> None:
        super().__init__(bench, Subject.WHOLE)
