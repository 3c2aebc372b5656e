"""Is the machine quiet? Processor time that is neither the tool's nor the server's, time stolen by neighbours, and a
piece of work that is always the same."""

import hashlib
import os
import platform
import statistics
import time
from dataclasses import dataclass
from pathlib import Path

TICK = os.sysconf("SC_CLK_TCK")
CORES = len(os.sched_getaffinity(0))
SPIN_LIMIT = 1.15
FOREIGN_LIMIT = 0.15
STEAL_LIMIT = 0.03


@dataclass(frozen=True)
class Ticks:
    """Processor time of the whole machine since boot, in seconds."""

    busy: float
    stolen: float


def ticks() -> Ticks:
    # user nice system idle iowait irq softirq steal; user holds guest already
    fields = [int(word) / TICK for word in Path("/proc/stat").read_text("ascii").splitlines()[0].split()[1:]]
    return Ticks(busy=sum(fields[:3]) + fields[5] + fields[6], stolen=fields[7])


def process_tree_seconds(root: int) -> float:
    """Processor time of a process, its living descendants, and all that any of them has waited for."""
    parents: dict[int, int] = {}
    seconds: dict[int, float] = {}
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        try:
            stat = Path("/proc", name, "stat").read_text("utf-8", "replace")
        except OSError:
            continue
        fields = stat.rpartition(")")[2].split()
        parents[int(name)] = int(fields[1])
        seconds[int(name)] = sum(int(word) for word in fields[11:15]) / TICK
    return sum(spent for pid, spent in seconds.items() if descends(pid, root, parents))


def descends(pid: int, root: int, parents: dict[int, int]) -> bool:
    while pid not in (0, root):
        pid = parents.get(pid, 0)
    return pid == root


def spin() -> float:
    """Seconds for the same piece of work on one core; the best of three, so that a hiccup does not count."""
    block, best = bytes(1 << 20), float("inf")
    for _ in range(3):
        digest, started = hashlib.sha256(), time.monotonic()
        for _ in range(512):
            digest.update(block)
        best = min(best, time.monotonic() - started)
    return best


def disk_spin(folder: Path, megabytes: int = 256) -> float:
    """Seconds to write and flush a file."""
    path, block = folder / "disk-spin", os.urandom(1 << 20)
    started = time.monotonic()
    with path.open("wb") as file:
        for _ in range(megabytes):
            file.write(block)
        os.fsync(file.fileno())
    spent = time.monotonic() - started
    path.unlink()
    return spent


def describe() -> dict[str, object]:
    info = Path("/proc/cpuinfo").read_text("utf-8")
    model = next((line.partition(":")[2].strip() for line in info.splitlines() if line.startswith("model name")), "")
    memory = int(Path("/proc/meminfo").read_text("ascii").split()[1]) * 1024
    return {"cores": CORES, "processor": model, "memory": memory, "kernel": platform.release(), "load": os.getloadavg()}


class Quiet:
    """Collects what speaks against the numbers."""

    def __init__(self) -> None:
        self.spins: list[float] = []
        self.disk_spins: list[float] = []
        self.noisy: list[str] = []
        self.runs = 0

    def begin_round(self, folder: Path) -> None:
        self.spins.append(spin())
        self.disk_spins.append(disk_spin(folder))

    def watch(self, what: str, wall: float, foreign: float, stolen: float) -> None:
        """One timed run: the shares of the machine that went to others."""
        self.runs += 1
        capacity = max(wall, 0.5) * CORES
        if foreign / capacity > FOREIGN_LIMIT or stolen / capacity > STEAL_LIMIT:
            self.noisy.append(f"{what}: others {100 * foreign / capacity:.0f} %, stolen {100 * stolen / capacity:.0f} %")

    def warnings(self) -> list[str]:
        found = []
        for name, values in (("processor", self.spins), ("disk", self.disk_spins)):
            if values and max(values) > SPIN_LIMIT * min(values):
                shown = ", ".join(f"{value:.2f}" for value in values)
                found.append(f"the same {name} work took {shown} s in the rounds: the machine was not steady")
        if self.noisy:
            found.append(f"{len(self.noisy)} of {self.runs} timed runs shared the machine with others: {'; '.join(self.noisy[:4])}")
        load = os.getloadavg()[2]
        if self.runs and load > 1.5 * CORES:
            found.append(f"the load average over 15 minutes is {load:.1f} on {CORES} cores")
        return found

    def spread(self) -> dict[str, object]:
        return {
            "processor_spins": self.spins,
            "disk_spins": self.disk_spins,
            "median_processor_spin": statistics.median(self.spins) if self.spins else None,
            "noisy_runs": self.noisy,
        }
