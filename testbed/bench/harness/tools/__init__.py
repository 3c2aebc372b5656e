"""The tools that are compared, each behind the same few calls."""

from .base import Bench, Phase, Subject, Tool
from .basebackup import BaseBackup
from .floor import Floor
from .lifeboat import Lifeboat, LifeboatWhole
from .pgbackrest import PgBackRest
from .restic import Restic
from .rustic import Rustic

__all__ = ["Bench", "Phase", "Subject", "Tool", "all_tools"]


def all_tools(bench: Bench, subject: Subject) -> list[Tool]:
    """Everything that can back up the subject; lifeboat first, the floor last."""
    if subject is Subject.CLUSTER:
        return [
            Lifeboat(bench, subject),
            BaseBackup(bench, packed=False),
            BaseBackup(bench, packed=True),
            PgBackRest(bench, blocks=False),
            PgBackRest(bench, blocks=True),
            Floor(bench, subject),
        ]
    if subject is Subject.FILESTORE:
        return [Lifeboat(bench, subject), Restic(bench), Rustic(bench), Floor(bench, subject)]
    return [LifeboatWhole(bench)]
