"""Trees on disk: how big, read once, removed."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path


def walk(root: Path, leave_out: tuple[str, ...] = ()) -> Iterator[os.DirEntry[str]]:
    """All regular files below; `leave_out` names folders directly below the root."""
    pending = [str(root)]
    while pending:
        folder = pending.pop()
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    if folder != str(root) or entry.name not in leave_out:
                        pending.append(entry.path)
                elif entry.is_file(follow_symlinks=False):
                    yield entry


def disk_bytes(root: Path, leave_out: tuple[str, ...] = ()) -> int:
    """The sum of the files' lengths."""
    total = 0
    for entry in walk(root, leave_out):
        try:
            total += entry.stat(follow_symlinks=False).st_size
        except FileNotFoundError:
            pass  # a server's temporary file
    return total


def read_all(root: Path) -> None:
    """Brings a tree into the page cache."""
    buffer = bytearray(1 << 20)
    for entry in walk(root):
        try:
            with open(entry.path, "rb", buffering=0) as file:
                while file.readinto(buffer):
                    pass
        except FileNotFoundError:
            pass


def remove(root: Path) -> None:
    """A tree that may not be there."""
    if root.is_symlink() or root.is_file():
        root.unlink()
    elif root.exists():
        shutil.rmtree(root)


def emptied(root: Path) -> Path:
    remove(root)
    root.mkdir(parents=True)
    return root
