"""What every tool must be able to do, and what it is given."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from ..cluster import Beside, Cluster
from ..files import disk_bytes, emptied, remove
from ..filestore import Filestore
from ..measure import Command
from ..server import Server


class Subject(Enum):
    """What is backed up."""

    CLUSTER = "cluster"
    FILESTORE = "filestore"
    WHOLE = "whole"
    WAL = "wal"
    """Continuous WAL: streamed beside pg_receivewal, replayed beside a local directory."""


class Phase(Enum):
    """The steps of a round, in this order."""

    FIRST = "first backup"
    UNCHANGED = "unchanged backup"
    CHANGED = "backup after 1 % changed"
    RESTORE = "restore"


BACKUPS = (Phase.FIRST, Phase.UNCHANGED, Phase.CHANGED)


@dataclass(frozen=True)
class Bench:
    """The input, the places and the log that all tools share."""

    work: Path
    state: Path
    log: Path
    cluster: Cluster
    filestore: Filestore
    beside: Beside


class Tool(ABC):
    """One row of the tables."""

    name: str
    note = ""
    """What a reader must know to read the row rightly."""

    is_backup = True
    """Whether what it restores is a cluster that starts."""

    def __init__(self, bench: Bench, subject: Subject, folder: str) -> None:
        self.bench = bench
        self.subject = subject
        self.home = bench.work / f"{subject.value}-{folder}"
        """Holds the tool's repository and everything else it needs."""

    @property
    def key(self) -> str:
        return f"{self.subject.value}/{self.name}"

    def missing(self) -> str | None:
        """Why this tool cannot run here."""
        return None

    @abstractmethod
    def version(self) -> str:
        """As the tool says it."""

    def prepare(self) -> None:
        """A fresh repository; not timed."""
        emptied(self.home)

    @abstractmethod
    def backup(self, phase: Phase) -> Command | None:
        """The command of a phase, or None if the tool has none."""

    def before_backup(self, phase: Phase) -> None:
        """What must be in place before the clock starts."""

    def after_backup(self, phase: Phase) -> None:
        """Looks at what the backup left, when the clock has stopped."""

    @abstractmethod
    def restore(self, target: Path) -> Command:
        """Puts the newest backup into a folder that does not exist."""

    def before_restore(self, target: Path) -> None:
        """What must be in place before the clock starts."""

    def restored(self, target: Path) -> Path:
        """Where in the target the restored tree begins."""
        return target

    def stored(self) -> int:
        """Bytes in the repository."""
        return disk_bytes(self.home)

    def server(self) -> Server | None:
        """The server whose processor time belongs to the backup."""
        return self.bench.cluster.server if self.subject is not Subject.FILESTORE else None

    def cleanup(self) -> None:
        """Leaves nothing on the disk."""
        remove(self.home)


def shell(script: str, user: str = "root") -> Command:
    """A pipeline; any part that fails fails it."""
    return Command(["bash", "-euo", "pipefail", "-c", script], user=user)
