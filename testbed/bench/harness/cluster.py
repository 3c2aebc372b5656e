"""The cluster that is backed up: made once and kept, copied for a run, changed by clusters of pages, compared after a restore."""

import random
import shutil
from dataclasses import dataclass
from pathlib import Path

from . import rows
from . import server as servers
from .files import disk_bytes, read_all
from .measure import Command, ToolFailed, call
from .server import Server

VERSION = 1
"""Counts changes to how the data is made."""
PORT = 5717
CHECK_PORT = 5718
RUNS_OF_PAGES = 40
PAGE = 8192

DIGEST = """
SELECT (SELECT count(*) || ' ' || sum(abalance) || ' ' || sum(hashint8extended(aid::bigint * 65536 + abalance, 0)) FROM pgbench_accounts)
  || ' ' || (SELECT count(*) || ' ' || sum(hashtextextended(subject || body, id)) FROM mail_message)
  || ' ' || (SELECT count(*) || ' ' || sum(jsonb_hash_extended(data, id)) FROM sale_order_json)
  || ' ' || (SELECT count(*) || ' ' || sum(hashtextextended(content, id)) FROM document)
"""


@dataclass(frozen=True)
class Change:
    """Pages that were changed on purpose."""

    pages: int
    rows: int

    @property
    def bytes(self) -> int:
        return self.pages * PAGE


class Cluster:
    """A cluster of about 2 GB under test."""

    def __init__(self, data: Path, work: Path, log: Path, scale: int, text_megabytes: int) -> None:
        self.golden = data / f"cluster-v{VERSION}-{scale}-{text_megabytes}"
        self.work = work
        self.log = log
        self.scale = scale
        self.units = max(1, round(text_megabytes / rows.MEGABYTES_PER_UNIT))
        self.server = Server(work / "cluster", PORT, work / "sockets", log)
        self.archive_target = work / "archive-target"
        self.checker = work / "sockets-of-check"

    @property
    def data(self) -> Path:
        return self.server.data

    def make(self) -> None:
        """Makes the cluster if it is not there; the final rename alone makes it count."""
        if self.golden.exists():
            return
        fresh = self.golden.with_suffix(".making")
        shutil.rmtree(fresh, ignore_errors=True)
        maker = Server(fresh, PORT, self.work / "sockets", self.log)
        servers.initialise(maker)
        try:
            connection = ["-h", str(maker.sockets), "-p", str(maker.port), "-U", servers.USER]
            argv = ["pgbench", "-i", "-I", "dtgp", "-F", "90", "-q", "-s", str(self.scale), *connection, "bench"]
            call(Command(argv, user=servers.USER), self.log)
            for table in rows.tables(self.units):
                maker.ask(f"CREATE TABLE {table.name} {table.define}")
                maker.copy_in(table.name, table.rows)
                maker.ask(table.finish)
            # Frozen and with all hint bits set: from here on only what the benchmark changes, changes.
            maker.ask("VACUUM (FREEZE, ANALYZE)")
            maker.ask("CHECKPOINT")
        finally:
            maker.stop()
        # The load's WAL is of no use to anybody.
        call(Command(["pg_resetwal", "-D", str(fresh)], user=servers.USER), self.log)
        fresh.rename(self.golden)

    def open(self, *, consume: bool = False) -> None:
        """Starts a copy of the made cluster (or, to save room, itself), with WAL summaries and an archive command that can
        be pointed anywhere."""
        if consume:
            self.golden.rename(self.data)
        else:
            call(Command(["cp", "-a", "--reflink=auto", str(self.golden), str(self.data)]), self.log)
        self.work.chmod(0o755)
        script = self.work / "archive-by-pgbackrest"  # pgBackRest wants to see its name in the command
        script.write_text(
            "#!/bin/sh\n"
            "# Archives a segment for whoever backs up at the moment; nobody else wants it.\n"
            f"target=$(cat {self.archive_target})\n"
            '[ -n "$target" ] || exit 0\n'
            'exec pgbackrest --config="$target" --stanza=bench archive-push "$1"\n',
            "ascii",
        )
        script.chmod(0o755)
        self.archive_to(None)
        self.server.start(archive_mode="on", archive_command=f"{script} %p", summarize_wal="on", wal_summary_keep_time="1d")

    def archive_to(self, config: Path | None) -> None:
        self.archive_target.write_text(str(config or ""), "utf-8")

    def bytes(self) -> int:
        """What a backup of it carries."""
        return disk_bytes(self.data, leave_out=("pg_wal",))

    def warm(self) -> None:
        read_all(self.data)

    def change(self, seed: int) -> Change:
        """Changes rows in about 1 % of all pages, in runs of neighbouring pages, in place."""
        pages = int(self.server.ask("SELECT pg_relation_size('pgbench_accounts') / 8192"))
        wanted = self.bytes() // PAGE // 100
        length = max(1, wanted // RUNS_OF_PAGES)
        slots = random.Random(seed).sample(range(pages // length), min(RUNS_OF_PAGES, pages // length))
        changed = 0
        for slot in slots:
            begin, end = slot * length, (slot + 1) * length
            changed += int(
                self.server.ask(
                    "WITH changed AS (UPDATE pgbench_accounts SET abalance = abalance + 1 + aid % 977 "
                    f"WHERE ctid >= '({begin},0)' AND ctid < '({end},0)' AND aid % 20 = 0 RETURNING 1) SELECT count(*) FROM changed"
                )
            )
        self.server.ask("CHECKPOINT")
        return Change(pages=length * len(slots), rows=changed)

    def digest(self) -> str:
        return self.server.ask(DIGEST)

    def check(self, restored: Path, expected: str) -> None:
        """Starts a restored cluster, compares its content, stops it and checks every page."""
        server = Server(restored, CHECK_PORT, self.checker, self.log)
        call(Command(["chown", "-R", f"{servers.USER}:{servers.USER}", str(restored)]), self.log)
        restored.chmod(0o700)
        try:
            server.start(archive_mode="off", summarize_wal="off", shared_buffers="128MB")
            found = server.ask(DIGEST)
            server.stop()
        finally:
            server.kill_if_running()
        if found != expected:
            raise ToolFailed(f"{restored}: the restored content differs: {found} instead of {expected}")
        call(Command(["pg_checksums", "--check", "-D", str(restored)], user=servers.USER), self.log)

    def check_size(self, restored: Path) -> None:
        """The quick check of later rounds."""
        expected, found = self.bytes(), disk_bytes(restored, leave_out=("pg_wal",))
        if abs(found - expected) > max(expected // 200, 1 << 20):
            raise ToolFailed(f"{restored}: {found} bytes restored instead of about {expected}")


class Beside:
    """A nearly empty cluster: lifeboat backs up whole systems, so its filestore needs a database to belong to."""

    def __init__(self, work: Path, log: Path) -> None:
        self.server = Server(work / "small-cluster", PORT + 2, work / "sockets", log)

    def open(self) -> None:
        servers.initialise(self.server)
        self.server.stop()
        self.server.start()
