"""The server whose WAL is taken: a cluster of its own, and a load that writes WAL as a busy Odoo does."""

from pathlib import Path

from . import rows
from . import server as servers
from .measure import Command, ToolFailed, call
from .server import Server
from .tools.wal import KEEPER, lsn

PORT = 5720
SEGMENT = 16 << 20
TABLES = {
    "mail_message": "id + {shift}, create_date, author_id, subject, body",
    "sale_order_json": "id + {shift}, partner_id, data",
    "document": "id + {shift}, name, content",
}
UNITS = 10
CLIENTS = 8
TRANSACTIONS = 2500
ASYNCHRONOUS = {"PGOPTIONS": "-c synchronous_commit=off"}
"""For the load alone: the same WAL in less time."""

DIGEST = """
SELECT (SELECT count(*) || ' ' || sum(abalance) || ' ' || sum(hashint8extended(aid::bigint * 65536 + abalance, 0)) FROM pgbench_accounts)
  || ' ' || (SELECT count(*) || ' ' || sum(delta) FROM pgbench_history)
  || ' ' || (SELECT count(*) || ' ' || sum(hashtextextended(subject || body, id)) FROM mail_message_log)
  || ' ' || (SELECT count(*) || ' ' || sum(jsonb_hash_extended(data, id)) FROM sale_order_json_log)
  || ' ' || (SELECT count(*) || ' ' || sum(hashtextextended(content, id)) FROM document_log)
"""


class WalSource:
    """Made anew for each run; the keeper's slot keeps every segment that it has written."""

    def __init__(self, work: Path, log: Path, scale: int) -> None:
        self.server = Server(work / "wal-cluster", PORT, work / "sockets", log)
        self.log = log
        self.scale = scale
        self.bulks = 0

    def open(self) -> None:
        servers.initialise(self.server)
        call(self.pgbench("-i", "-I", "dtgp", "-F", "90", "-q", "-s", str(self.scale)), self.log)
        for table in rows.tables(UNITS):
            self.server.ask(f"CREATE TABLE {table.name} {table.define}")
            self.server.copy_in(table.name, table.rows)
            self.server.ask(table.finish)
            self.server.ask(f"CREATE TABLE {table.name}_log (LIKE {table.name} INCLUDING ALL)")
        self.server.ask("VACUUM (FREEZE, ANALYZE)")
        self.server.stop()
        # What it writes is for the others to flush, and it writes in less time.
        self.server.start(fsync="off")
        self.server.ask(f"SELECT pg_create_physical_replication_slot('{KEEPER}', true)")

    def pgbench(self, *arguments: str) -> Command:
        connection = ["-h", str(self.server.sockets), "-p", str(self.server.port), "-U", servers.USER, "bench"]
        return Command(["pgbench", *arguments, *connection], user=servers.USER, env=ASYNCHRONOUS)

    def write(self, megabytes: int) -> None:
        """Half of it by pgbench, from a checkpoint on each time, so that page images are in it; half by bulk inserts."""
        goal = self.end() + megabytes * 1_000_000
        while self.end() < goal:
            begun = self.end()
            self.server.ask("CHECKPOINT")
            call(self.pgbench("-N", "-n", "-M", "prepared", "-c", str(CLIENTS), "-j", "2", "-t", str(TRANSACTIONS)), self.log)
            half = self.end()
            while self.end() - half < half - begun and self.end() < goal:
                self.bulk()

    def bulk(self) -> None:
        self.bulks += 1
        for table, columns in TABLES.items():
            shifted = columns.format(shift=self.bulks * 1_000_000)
            self.server.ask(f"INSERT INTO {table}_log SELECT {shifted} FROM {table}")

    def end(self) -> int:
        """Up to here WAL is on the server's disk, when nobody writes."""
        return lsn(self.server.ask("SELECT pg_current_wal_flush_lsn()"))

    def settled_end(self) -> int:
        """The end, with everything that was written asynchronously."""
        self.server.ask("SELECT pg_logical_emit_message(true, 'bench', 'the end')")
        return self.end()

    def start(self) -> int:
        """Where the first segment begins that the keeper keeps."""
        at = lsn(self.server.ask(f"SELECT restart_lsn FROM pg_replication_slots WHERE slot_name = '{KEEPER}'"))
        return at - at % SEGMENT

    def digest(self) -> str:
        return self.server.ask(DIGEST)

    def compare(self, folder: Path, end: int, first: int | None = None) -> int:
        """Every segment file up to the end against the server's own, byte by byte. Gives how many bytes were equal."""
        position = self.start() if first is None else first
        compared = 0
        while position < end:
            name = segment(position)
            length = min(SEGMENT, end - position)
            if part(folder / name, length) != part(self.server.data / "pg_wal" / name, length):
                raise ToolFailed(f"{folder / name} is not what the server wrote")
            compared += length
            position += SEGMENT
        return compared


def segment(position: int) -> str:
    number = position // SEGMENT
    per_file = (1 << 32) // SEGMENT
    return f"{1:08X}{number // per_file:08X}{number % per_file:08X}"


def part(path: Path, length: int) -> bytes:
    """The first bytes; of a segment that still fills, the file has another name."""
    found = path if path.exists() else path.with_name(f"{path.name}.partial")
    if not found.exists():
        raise ToolFailed(f"{path} is missing")
    with found.open("rb") as file:
        content = file.read(length)
    if len(content) != length:
        raise ToolFailed(f"{found} ends after {len(content)} of {length} bytes")
    return content
