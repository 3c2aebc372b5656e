"""A PostgreSQL server of the image: start, ask, stop."""

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from .measure import Command, ToolFailed, call

USER = "postgres"
COMMON = {
    "listen_addresses": "127.0.0.1",
    "shared_buffers": "256MB",
    "max_connections": "40",
    "wal_level": "replica",
    "max_wal_senders": "10",
    "autovacuum": "off",
    "checkpoint_timeout": "1h",
    "max_wal_size": "4GB",
    "logging_collector": "off",
}


@dataclass
class Server:
    """One cluster with the database `bench`."""

    data: Path
    port: int
    sockets: Path
    log: Path

    @property
    def says(self) -> Path:
        """The server's own log."""
        return self.sockets / f"{self.data.name}.log"

    def flags(self, **settings: str) -> str:
        """Its settings for the command line."""
        options = {**COMMON, "port": str(self.port), "unix_socket_directories": str(self.sockets), **settings}
        return " ".join(f"-c {name}='{value}'" for name, value in options.items())

    def start(self, **settings: str) -> None:
        """Starts and waits until it takes connections and is no longer in recovery."""
        give_to_server(self.sockets)
        server_log = self.says
        try:
            self.pg_ctl("start", "-w", "-t", "300", "-l", str(server_log), "-o", self.flags(**settings))
        except ToolFailed as error:
            shown = last_lines(server_log)
            raise ToolFailed(f"{error}\n{server_log}:\n{shown}") from None
        deadline = time.monotonic() + 300
        while self.ask("SELECT pg_is_in_recovery()", "postgres") != "f":
            if time.monotonic() > deadline:
                raise ToolFailed(f"the server of {self.data} does not leave recovery:\n{last_lines(server_log)}")
            time.sleep(0.1)

    def stop(self) -> None:
        self.pg_ctl("stop", "-w", "-t", "300", "-m", "fast")

    def kill_if_running(self) -> None:
        """For the way out after an error."""
        pid = self.pid()
        if pid is not None:
            try:
                os.kill(pid, signal.SIGINT)
            except ProcessLookupError:
                return

    def pid(self) -> int | None:
        try:
            return int((self.data / "postmaster.pid").read_text("ascii").splitlines()[0])
        except (OSError, ValueError, IndexError):
            return None

    def pg_ctl(self, *arguments: str) -> None:
        call(Command(["pg_ctl", "-s", "-D", str(self.data), *arguments], user=USER), self.log)

    def ask(self, sql: str, database: str = "bench") -> str:
        argv = [
            "psql",
            "-X",
            "-A",
            "-t",
            "-q",
            "-v",
            "ON_ERROR_STOP=1",
            "-h",
            str(self.sockets),
            "-p",
            str(self.port),
            "-d",
            database,
        ]
        return call(Command([*argv, "-c", sql], user=USER), self.log).strip()

    def copy_in(self, table: str, lines: Iterable[str]) -> None:
        """Fills a table from lines in COPY's text form."""
        argv = ["psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-h", str(self.sockets), "-p", str(self.port), "-d", "bench"]
        process = subprocess.Popen(
            [*argv, "-c", f"COPY {table} FROM STDIN"], stdin=subprocess.PIPE, user=USER, group=USER, extra_groups=[], text=True
        )
        assert process.stdin is not None  # it was asked for
        with process.stdin:
            process.stdin.writelines(lines)
        if process.wait() != 0:
            raise ToolFailed(f"COPY {table} ended with {process.returncode}")


def last_lines(log: Path) -> str:
    return "\n".join(log.read_text("utf-8", "replace").splitlines()[-12:]) if log.exists() else ""


def give_to_server(folder: Path) -> None:
    """An existing or new folder that the server's user owns."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.chown(folder, USER, USER)


def initialise(server: Server) -> None:
    """A new cluster with checksums, the role `lifeboat` and the database `bench`; whoever connects is let in."""
    give_to_server(server.data.parent)
    call(
        Command(
            [
                "initdb",
                "-D",
                str(server.data),
                "-U",
                USER,
                "--data-checksums",
                "--encoding=UTF8",
                "--locale=C.UTF-8",
                "--auth=trust",
                "--no-sync",
            ],
            user=USER,
        ),
        server.log,
    )
    server.start(fsync="off", wal_level="minimal", max_wal_senders="0", maintenance_work_mem="256MB")
    server.ask("CREATE ROLE lifeboat LOGIN REPLICATION; GRANT pg_read_all_data TO lifeboat", "postgres")
    server.ask("CREATE DATABASE bench", "postgres")
