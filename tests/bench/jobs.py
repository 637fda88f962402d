"""
jobs - what tests/bench/run has its peers do. Most are one run of fio; some bring the disk to a state
first, some copy a file. Figures are operations a second unless the job says something else.
"""

import dataclasses
import os
import subprocess
import time

import measure as m
import peers as p

YOUNG_BYTES = 32 * m.MIB  # half of the ring of a pool as `vpool create` makes it
COPY_BYTES = m.MIB
HALF_S = 3.0  # how long it is tried what the whole rate is


@dataclasses.dataclass(frozen=True)
class Job:
    title: str
    how: dict  # fio's options; of a copy: {"copy": "in"} or "out"
    wanted: dict  # ratios of V to peers
    goal: dict = dataclasses.field(default_factory=dict)  # where more is aimed at
    kind: str = p.WRITE
    files: int = 1  # disks, each with a part of the size and jobs of its own
    alone: tuple = ()  # peers that have one disk all the same
    before: str = ""  # a step of BEFORE
    figure: str = "rate"
    most: bool = False  # the ratio is to be at most what is wanted
    quick: bool = False  # one of --quick

    @property
    def reads(self):
        return "read" in self.how.get("rw", "") or self.how.get("copy") == "out"

    @property
    def writes(self):
        rw = self.how.get("rw", "")
        return "write" in rw or rw == "randrw" or self.how.get("copy") == "in"

    def files_of(self, peer):
        return 1 if peer in self.alone else self.files

    def suits(self, peer):
        """Not every peer serves several disks, or one that grows."""
        if "copy" in self.how:
            return peer.id in ("V", "b")
        return peer.many or self.files_of(peer.id) == 1

    def peers(self):
        return {**self.wanted, **self.goal}


def random_write(depth, **more):
    return {"rw": "randwrite", "bs": "4k", "iodepth": depth, **more}


def random_read(depth):
    return {"rw": "randread", "bs": "4k", "iodepth": depth}


READ_1M = {"rw": "read", "bs": "1m", "iodepth": 8}

JOBS = {
    "randwrite4k": Job(
        "4 KiB random write, depth 32",
        random_write(32),
        {"a": 0.7, "b": 1.3, "c": 1.0},
        {"a": 0.85, "b": 1.8, "c": 10},
        quick=True,
    ),
    "randwrite4k1": Job(
        "4 KiB random write, depth 1",
        random_write(1),
        {},
        {"a": 0.8, "b": 1.4},
    ),
    "randwrite4k8": Job(
        "4 KiB random write, 8 disks, depth 4 each",
        random_write(4),
        {},
        {"a": 0.85},
        files=8,
    ),
    "write1m": Job(
        "1 MiB sequential write, depth 8",
        {"rw": "write", "bs": "1m", "iodepth": 8},
        {"b": 0.7, "c": 1.0},
        {"b": 0.95},
        quick=True,
    ),
    "randwrite64k": Job(
        "64 KiB random write, depth 32",
        {"rw": "randwrite", "bs": "64k", "iodepth": 32},
        {},
        {"b": 0.9},
    ),
    "sync4k": Job(
        "4 KiB random write with fdatasync, depth 1",
        random_write(1, fdatasync=1),
        {"b": 0.6, "c": 1.0},
        {"b": 0.85},
        quick=True,
    ),
    "sync4k8": Job(
        "4 KiB random write with fdatasync, 8 jobs on one disk",
        random_write(1, fdatasync=1, numjobs=8),
        {},
        {"c": 1.7},
    ),
    "sync4k16": Job(
        "4 KiB random write with fdatasync, 16 disks (the plain file: one job)",
        random_write(1, fdatasync=1),
        {},
        {"b": 3.0},
        files=16,
        alone=("b",),
    ),
    "randread4k": Job(
        "4 KiB random read, depth 32",
        random_read(32),
        {"p": 0.9, "c": 1.0},
        {"p": 0.9},
        kind=p.READ,
        quick=True,
    ),
    "randread4k1": Job(
        "4 KiB random read, depth 1",
        random_read(1),
        {"p": 0.9, "c": 1.0},
        {"p": 0.9},
        kind=p.READ,
        quick=True,
    ),
    "young4k": Job(
        "4 KiB random read, depth 32, of what was just written",
        {**random_read(32), "size": YOUNG_BYTES},
        {},
        {"b": 1.5},
        before="young",
    ),
    "read1m": Job(
        "1 MiB sequential read, depth 8",
        READ_1M,
        {"b": 0.8, "c": 1.0},
        {"b": 0.9},
        kind=p.READ,
        quick=True,
    ),
    "read1m_random": Job(
        "1 MiB sequential read, depth 8, after the disk was overwritten at random",
        READ_1M,
        {},
        {"b": 0.5},
        before="overwrite",
    ),
    "read1m_scrubbed": Job(
        "1 MiB sequential read, depth 8, after that and a scrub",
        READ_1M,
        {},
        {"b": 0.8},
        before="scrub",
    ),
    "mix16k": Job(
        "16 KiB random, 70 % reads, depth 16",
        {"rw": "randrw", "rwmixread": 70, "bs": "16k", "iodepth": 16},
        {},
        {"b": 1.2},
    ),
    "copy_in": Job(
        "buffered copy of a disk in, and fsync: MiB a second",
        {"copy": "in"},
        {},
        {"b": 0.9},
    ),
    "copy_out": Job(
        "buffered copy of a disk out, and fsync: MiB a second",
        {"copy": "out"},
        {},
        {"b": 0.9},
        kind=p.READ,
    ),
    "half4k": Job(
        "4 KiB random write, depth 32, at half of the rate that each reaches: p99.9 in us",
        random_write(32),
        {},
        {"b": 3.0},
        figure="p99_9_us",
        most=True,
    ),
}


# --- before a job: the peer serves, nothing is measured ---


def write_young(peer, _job):
    """No sync behind it: V still has it in its ring, others have it on disk."""
    how = {**random_write(32), **m.RANDOM_DATA}
    m.fio(peer.path(p.WRITE), size=YOUNG_BYTES, randrepeat=0, **how)


def overwrite(peer, _job):
    """Every cluster once, at random, and all of it on disk."""
    how = {**random_write(32), **m.RANDOM_DATA}
    m.fio(peer.path(p.WRITE), size=peer.sizes[p.WRITE], end_fsync=1, randrepeat=0, **how)


def overwrite_and_scrub(peer, job):
    overwrite(peer, job)
    peer.scrub()


BEFORE = {"young": write_young, "overwrite": overwrite, "scrub": overwrite_and_scrub}


# --- jobs -------------------------------------------------------------------------------------------


def figures_of(report):
    """Of fio's report; its time ends with the last fsync."""
    parts = [report[x] for x in ("read", "write") if report[x]["total_ios"]]
    seconds = max((part["runtime"] for part in parts), default=0) / 1000
    if not seconds:
        raise m.Failed("fio did not do a single operation: more --seconds")
    ops = sum(part["total_ios"] for part in parts)
    latency = parts[-1]["clat_ns"].get("percentile", {})
    return {
        "ops": ops,
        "bytes": sum(part["io_bytes"] for part in parts),
        "written_bytes": report["write"]["io_bytes"],
        "seconds": seconds,
        "rate": ops / seconds,
        **{
            f"p{name}_us": latency[key] / 1000
            for name, key in (("50", "50.000000"), ("99", "99.000000"), ("99_9", "99.900000"))
            if key in latency
        },
    }


def run_fio(peer, job, seconds):
    how = dict(job.how)
    count = job.files_of(peer.id)
    if job.writes:
        how |= {**m.RANDOM_DATA, "end_fsync": 1}
    how = {
        "size": peer.sizes[job.kind] // count,
        "time_based": None,
        "randrepeat": 0,
        "norandommap": None,
        **how,
    }
    paths = [peer.path(job.kind, i) for i in range(count)]
    if job.figure != "rate":
        whole = figures_of(m.fio(*paths, runtime=m.fio_time(HALF_S), **how))
        how["rate_iops"] = max(1, int(whole["rate"] / 2))
    return figures_of(m.fio(*paths, runtime=m.fio_time(seconds), **how))


def run_copy(peer, job, _seconds):
    """By cp, with cold caches, until the copy is on disk."""
    path = peer.path(job.kind)
    source, target = path, f"{peer.work}/copy"
    if job.how["copy"] == "in":
        source, target = target, path
        m.prewrite(source, peer.sizes[job.kind])
        os.unlink(target)
        m.drop_caches()
    try:
        start = time.monotonic()
        subprocess.run(["cp", "--sparse=never", "--reflink=never", source, target], check=True)
        fd = os.open(target, os.O_RDWR)
        os.fsync(fd)
        os.close(fd)
        seconds = time.monotonic() - start
        size = os.path.getsize(target)
        if size != peer.sizes[job.kind]:
            raise m.Failed(f"the copy has {size} bytes")
    finally:
        os.unlink(f"{peer.work}/copy")
    ops = size // COPY_BYTES
    return {
        "ops": ops,
        "bytes": size,
        "written_bytes": size,
        "seconds": seconds,
        "rate": ops / seconds,
    }


def run(peer, job, seconds):
    """The peer serves, and is in the state that the job starts from."""
    return (run_copy if "copy" in job.how else run_fio)(peer, job, seconds)
