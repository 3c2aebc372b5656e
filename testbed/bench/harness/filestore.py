"""A filestore as Odoo keeps it: files named by their SHA-1 in folders of its first two letters, mostly incompressible."""

import hashlib
import math
import os
import random
from collections.abc import Iterator
from pathlib import Path

from .files import disk_bytes, read_all, remove, walk
from .measure import ToolFailed

VERSION = 1
"""Counts changes to how the files are made."""
SMALLEST, LARGEST = 200, 24 << 20
SPREAD = 1.6
TEXT_SHARE = 0.12
DATABASE = "bench"


class Filestore:
    """The folder that Odoo's data_dir calls `filestore`."""

    def __init__(self, data: Path, files: int, kilobytes: int) -> None:
        self.root = data / f"filestore-v{VERSION}-{files}-{kilobytes}"
        self.added = self.root.with_suffix(".added")
        self.count = files
        # The mean of a log-normal distribution is exp(mu + sigma² / 2).
        self.mu = math.log(kilobytes * 1000) - SPREAD**2 / 2

    def make(self) -> None:
        """Makes the files if they are not there; the final rename alone makes them count."""
        if not self.root.exists():
            fresh = self.root.with_suffix(".making")
            remove(fresh)
            for content in self.contents("files", self.count):
                write_attachment(fresh, content)
            fresh.rename(self.root)
        self.revert()

    def contents(self, seed: str, count: int) -> Iterator[bytes]:
        source = random.Random(seed)
        words = [source.randbytes(source.randint(1, 5)).hex().encode() for _ in range(3000)]
        for number in range(count):
            size = int(min(LARGEST, max(SMALLEST, source.lognormvariate(self.mu, SPREAD))))
            if source.random() < TEXT_SHARE:
                yield text(source, words, size, number)
            else:
                yield source.randbytes(size)

    def bytes(self) -> int:
        return disk_bytes(self.root)

    def warm(self) -> None:
        read_all(self.root)

    def change(self, seed: int) -> int:
        """Adds 1 % of new files and gives their bytes; Odoo never rewrites one."""
        total = 0
        for content in self.contents(f"added {seed}", max(1, self.count // 100)):
            path = write_attachment(self.root, content)
            with self.added.open("a", encoding="ascii") as file:
                file.write(f"{path}\n")
            total += len(content)
        return total

    def revert(self) -> None:
        """Takes away what `change` added, also in an earlier run that was cut short."""
        if self.added.exists():
            for line in self.added.read_text("ascii").splitlines():
                Path(line).unlink(missing_ok=True)
            self.added.unlink()

    def check(self, restored: Path) -> None:
        """Every file is there and its content is the one that its name says."""
        self.check_size(restored)
        for entry in walk(restored):
            with open(entry.path, "rb") as file:
                if hashlib.file_digest(file, "sha1").hexdigest() != entry.name:
                    raise ToolFailed(f"{entry.path}: the restored content is not what its name says")

    def check_size(self, restored: Path) -> None:
        found, expected = names_and_sizes(restored), names_and_sizes(self.root)
        if found != expected:
            raise ToolFailed(
                f"{restored}: {len(found)} files restored, {len(expected)} expected, {len(found.items() ^ expected.items())} differ"
            )


def write_attachment(root: Path, content: bytes) -> Path:
    name = hashlib.sha1(content).hexdigest()
    folder = root / DATABASE / name[:2]
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_bytes(content)
    return path


def text(source: random.Random, words: list[bytes], size: int, number: int) -> bytes:
    """Of so many bytes, like markup: words between tags."""
    lines, length = [b"%d" % number], 0
    while length < size:
        line = b"<p class='o_text'>" + b" ".join(source.choices(words, k=12)) + b"</p>"
        lines.append(line)
        length += len(line) + 1
    return b"\n".join(lines)[:size]


def names_and_sizes(root: Path) -> dict[str, int]:
    base = os.fspath(root)
    return {os.path.relpath(entry.path, base): entry.stat(follow_symlinks=False).st_size for entry in walk(root)}
