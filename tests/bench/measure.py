"""
measure - what tests/bench/run measures with: fio, CPU and memory of a process, bytes written to the
device, a memory group for a server, a machine that is quiet. Every process that is started here
is known by its id and ended by it.
"""

import json
import os
import re
import signal
import subprocess
import sys
import time

MIB = 1 << 20
GIB = 1 << 30
TICKS = os.sysconf("SC_CLK_TCK")
SECTOR_BYTES = 512
CPU_BUSY_MAX = 0.10  # share of all CPUs that others may use on a quiet machine
QUIET_WAIT_S = 900
STOP_WAIT_S = 60

children = []  # that were started and not waited for


class Failed(Exception):
    """A measurement that cannot be made: says why."""


def say(text):
    print(text, file=sys.stderr, flush=True)


def first_line(path):
    with open(path, encoding="ascii", errors="replace") as file:
        return file.readline().strip()


# --- processes ---


def start(argv, log=None, group=None, stdout=None):
    """A process of its own session, so that Ctrl-C is ours alone to pass on."""

    def enter():
        if group:
            group.enter()

    child = subprocess.Popen(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=stdout or log or subprocess.DEVNULL,
        stderr=log or subprocess.STDOUT,
        start_new_session=True,
        preexec_fn=enter,
    )
    children.append(child)
    return child


def end(child, wait_s=STOP_WAIT_S):
    """Ask it to end, kill it if it does not; its exit code."""
    if child.poll() is None:
        child.terminate()
    try:
        child.wait(wait_s)
    except subprocess.TimeoutExpired:
        os.killpg(child.pid, signal.SIGKILL)  # it leads a group of its own: fio's jobs go, too
        child.wait()
    if child in children:
        children.remove(child)
    return child.returncode


def end_all():
    for child in list(children):
        end(child, 5)


def call(argv, what=None):
    """Run a command to its end; its standard output."""
    child = subprocess.Popen(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        text=True,
    )
    children.append(child)
    try:
        out, err = child.communicate()
    finally:
        end(child, 10)
    if child.returncode != 0:
        tail = "\n".join((err.strip() or out).splitlines()[-8:])
        raise Failed(f"{what or argv[0]}: exit code {child.returncode}: {tail}")
    return out


def wait_until(true, what, limit_s=STOP_WAIT_S):
    until = time.monotonic() + limit_s
    while not true():
        if time.monotonic() > until:
            raise Failed(f"{what}: not within {limit_s} s")
        time.sleep(0.02)


def cpu_seconds(pid):
    with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def children_of(pid):
    """Processes that a process started, oldest first."""
    with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
        return [int(x) for x in file.read().split()]


def status_bytes(pid, key):
    with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as file:
        for line in file:
            if line.startswith(key + ":"):
                return int(line.split()[1]) * 1024
    raise Failed(f"/proc/{pid}/status has no {key}")


# --- the machine ---


def device_stat(path):
    device = os.stat(path).st_dev
    return f"/sys/dev/block/{os.major(device)}:{os.minor(device)}/stat"


def written_bytes(path):
    """To the device that holds path, by all; None where the kernel does not say."""
    try:
        return int(first_line(device_stat(path)).split()[6]) * SECTOR_BYTES
    except OSError:
        return None


def mount_points():
    with open("/proc/mounts", "rb") as file:
        return [
            os.fsdecode(re.sub(rb"\\(\d{3})", lambda o: bytes([int(o[1], 8)]), line.split()[1]))
            for line in file
        ]


def is_mounted(path):
    return path in mount_points()


def unmount_below(directory):
    for path in reversed(mount_points()):
        if path.startswith(directory + "/"):
            subprocess.run(["umount", "-l", path], check=False)


def drop_caches():
    os.sync()
    with open("/proc/sys/vm/drop_caches", "w", encoding="ascii") as file:
        file.write("3")


def busy_share(seconds=1.0):
    """Of all CPUs, by anybody."""

    def sample():
        n = [int(x) for x in first_line("/proc/stat").split()[1:9]]
        return sum(n), n[3] + n[4]

    all_0, idle_0 = sample()
    time.sleep(seconds)
    all_1, idle_1 = sample()
    return 1 - (idle_1 - idle_0) / max(1, all_1 - all_0)


def other_fio():
    ours = {child.pid for child in children}
    for name in os.listdir("/proc"):
        if name.isdigit() and int(name) not in ours:
            try:
                if first_line(f"/proc/{name}/comm") == "fio":
                    return int(name)
            except OSError:
                continue  # it has ended
    return None


def wait_quiet():
    """Until nobody works: neither another benchmark nor what a server does in the background."""
    told = False
    until = time.monotonic() + QUIET_WAIT_S
    while True:
        pid = other_fio()
        busy = busy_share()
        if pid is None and busy <= CPU_BUSY_MAX:
            return
        why = f"fio runs as process {pid}" if pid else f"{busy:.0%} of the CPUs are busy"
        if time.monotonic() > until:
            raise Failed(f"the machine is not quiet: {why} (--no-wait measures all the same)")
        if not told:
            say(f"waiting for a quiet machine: {why}")
            told = True


# --- a memory group ---


def mounts_of(kind, option=None):
    with open("/proc/mounts", encoding="utf-8") as file:
        for line in file:
            _, where, fstype, options = line.split()[:4]
            if fstype == kind and (option is None or option in options.split(",")):
                return where
    return None


def group_parent():
    """(file that limits memory, directory in which a group can be made), or None."""
    v1 = v2 = None
    with open("/proc/self/cgroup", encoding="utf-8") as file:
        for line in file:
            _, controllers, path = line.rstrip("\n").split(":", 2)
            if "memory" in controllers.split(","):
                v1 = (mounts_of("cgroup", "memory") or "") + path
            elif controllers == "":
                v2 = (mounts_of("cgroup2") or "") + path
    if v1 and os.path.isdir(v1):
        return "memory.limit_in_bytes", v1
    top = mounts_of("cgroup2")
    while v2 and top and v2.startswith(top) and os.path.isdir(v2):
        # A group with processes cannot hand controllers down: then one above it has.
        try:
            with open(f"{v2}/cgroup.subtree_control", "r+", encoding="ascii") as file:
                if "memory" not in file.read().split():
                    file.write("+memory")
            return "memory.max", v2
        except OSError:
            v2 = os.path.dirname(v2.rstrip("/"))
    return None


class MemoryGroup:
    """So much memory for a process and the page cache that it fills."""

    def __init__(self, limit_bytes):
        parent = group_parent()
        if not parent:
            raise Failed("no memory group can be made here")
        limit, directory = parent
        self.path = f"{directory}/vpool-bench.{os.getpid()}"
        try:
            os.mkdir(self.path)
        except OSError as error:
            raise Failed(f"making a memory group: {error}") from error
        try:
            self._write(limit, str(limit_bytes))
        except OSError as error:
            self.close()
            raise Failed(f"limiting a memory group: {error}") from error

    def _write(self, name, text):
        with open(f"{self.path}/{name}", "w", encoding="ascii") as file:
            file.write(text)

    def enter(self):
        """In the child, before it becomes a server."""
        self._write("cgroup.procs", "0")

    def close(self):
        for _ in range(100):
            try:
                os.rmdir(self.path)
                return
            except FileNotFoundError:
                return
            except OSError:  # the process is being taken out
                time.sleep(0.05)
        say(f"the memory group '{self.path}' stays behind")


# --- fio ---


def fio(*paths, **options):
    """Run one job on each file, at the same time; their part of fio's report."""
    argv = ["fio", "--output-format=json"]
    options = {"ioengine": "libaio", "direct": 1, "group_reporting": None, **options}
    for key, value in options.items():
        argv.append(f"--{key}" if value is None else f"--{key}={value}")
    for i, name in enumerate(paths):
        argv += [f"--name=bench{i}", "--filename=" + name.replace(":", "\\:")]
    path = paths[0]
    text = call(argv, f"fio on '{path}'")
    try:  # what fio notes stands before the report
        job = json.loads(text[text.index("{") :])["jobs"][0]
    except (ValueError, LookupError) as error:
        raise Failed(f"fio on '{path}' reports nothing: {text[-400:]}") from error
    if job["error"]:
        raise Failed(f"fio on '{path}': {os.strerror(job['error'])}")
    return job


def fio_time(seconds):
    return f"{seconds * 1000:.0f}ms"


def prewrite(path, size_bytes):
    fio(path, rw="write", bs="1m", iodepth=8, size=size_bytes, end_fsync=1, **RANDOM_DATA)


# Each buffer is filled anew: no zeros, nothing that repeats.
RANDOM_DATA = {"refill_buffers": None, "buffer_compress_percentage": 0}

signal.signal(signal.SIGPIPE, signal.SIG_DFL)
