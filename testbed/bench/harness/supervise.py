"""Runs one command and measures all of it: the command, its children, and what they leave behind.

A process of its own, so that the numbers hold nothing of the harness. It adopts orphans (workers that a tool starts and
does not wait for), ends when the last of them has ended, and then knows the processor time of all by getrusage. Peak memory
is the larger of two: the kernel's own record of the largest single process, and the sum over the process tree, sampled.

usage: supervise.py RESULT_FD SAMPLE_SECONDS COMMAND...
"""

import ctypes
import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time

PR_SET_CHILD_SUBREAPER = 36
PAGE = os.sysconf("SC_PAGE_SIZE")


def adopt_orphans() -> None:
    """Makes every descendant that loses its parent a child of this process."""
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


def children_of(pid: int) -> list[int]:
    """The children of all threads of a process."""
    found: list[int] = []
    try:
        for task in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{task}/children", encoding="ascii") as file:
                found.extend(int(word) for word in file.read().split())
    except OSError:
        pass  # ended meanwhile
    return found


def resident_bytes(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * PAGE
    except (OSError, IndexError):
        return 0


class TreeSampler(threading.Thread):
    """Follows the resident memory of all descendants."""

    def __init__(self, interval: float) -> None:
        super().__init__(daemon=True)
        self.interval = interval
        self.peak = 0
        self.done = threading.Event()

    def run(self) -> None:
        while not self.done.wait(self.interval):
            self.peak = max(self.peak, self.tree_bytes())

    def tree_bytes(self) -> int:
        total, pending = 0, children_of(os.getpid())
        while pending:
            pid = pending.pop()
            total += resident_bytes(pid)
            pending.extend(children_of(pid))
        return total


def wait_for_all() -> None:
    while True:
        try:
            os.wait()
        except ChildProcessError:
            return


def main() -> None:
    result_fd, interval, command = int(sys.argv[1]), float(sys.argv[2]), sys.argv[3:]
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the command gets it too, and decides
    adopt_orphans()
    sampler = TreeSampler(interval)
    sampler.start()
    started = time.monotonic()
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    status = process.wait()
    ended = time.monotonic()
    wait_for_all()
    sampler.done.set()
    sampler.join()
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    result = {
        "status": status,
        "wall": ended - started,
        "user": usage.ru_utime,
        "system": usage.ru_stime,
        "largest_process": usage.ru_maxrss * 1024,
        "peak_rss": max(sampler.peak, usage.ru_maxrss * 1024),
        "read_blocks": usage.ru_inblock,
        "written_blocks": usage.ru_oublock,
    }
    with os.fdopen(result_fd, "w", encoding="ascii") as file:
        json.dump(result, file)


if __name__ == "__main__":
    main()
