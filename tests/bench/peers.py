"""
peers - who is measured by tests/bench/run. Each peer has a disk to write on and one to read from,
both of random data, and serves one of them at a time: prepare(), then serve() and stop(), over and
over. Between them nothing of it runs and nothing of it is mounted.
"""

import os
import re
import shutil
import subprocess

import measure as m

WRITE, READ = "write", "read"
DISKS_MAX = 16
RING = re.compile(rb"/[^\x00-\x1f]*/vpool-[0-9a-f]{32}-[0-9a-f]+-[0-9a-f]+-[0-9a-f]{16}")


def disk_name(number):
    return f"disk{number or ''}.raw"


class Peer:
    """One that has a server process, a mount and a log."""

    id = name = ""

    def __init__(self, work, bin_dir, sizes):
        self.work, self.bin, self.sizes = work, bin_dir, sizes
        self.mountpoint = f"{work}/mnt"
        self.group = self.server = None
        self.kind = WRITE  # what is served, or was last
        self.log = f"{work}/log.{self.id}"

    def program(self, name):
        for path in (f"{self.bin}/{name}", f"{self.bin}/tests/{name}"):
            if os.access(path, os.X_OK):
                return path
        raise m.Failed(f"no program '{name}' below '{self.bin}': build it, or --bin DIR")

    def argv(self, kind):
        """The command of the server, which stays in the foreground."""
        raise NotImplementedError

    many = True  # it can serve several disks

    def path(self, kind, number=0):
        """What fio opens while kind is served; of several disks the one with this number."""
        return f"{self.mountpoint}/{disk_name(number)}"

    def prepare(self):
        """Make both disks, once."""

    def before(self, kind, count=1):
        """Bring the disk, or so many of them, to the state that every job starts from."""

    def scrub(self):
        """Give it the time, and the word, to put its disk in order."""

    def covered(self):
        return self.mountpoint

    def make_mountpoint(self):
        os.makedirs(self.mountpoint, exist_ok=True)

    def is_ready(self):
        if self.server.poll() is not None:
            raise m.Failed(f"{self.name} ended early: {self.last_words()}")
        return m.is_mounted(self.covered())

    def last_words(self):
        with open(self.log, encoding="utf-8", errors="replace") as file:
            return file.read()[-600:].strip()

    def serve(self, kind, memory_bytes=0):
        """Start the server, in a memory group if a size is given."""
        self.kind = kind
        self.make_mountpoint()
        self.group = m.MemoryGroup(memory_bytes) if memory_bytes else None
        with open(self.log, "ab") as log:
            self.server = m.start(self.argv(kind), log, self.group)
        m.wait_until(self.is_ready, f"mounting {self.name}")

    @property
    def pid(self):
        return self.server.pid if self.server else None

    def ask_to_end(self):
        subprocess.run(["umount", self.mountpoint], check=False, capture_output=True)

    def stop(self):
        """End the server, also one that half started or hangs. True: it ended as it should."""
        if not self.server:
            return True
        if self.server.poll() is None:
            self.ask_to_end()
        code = m.end(self.server)
        self.server = None
        while m.is_mounted(self.covered()):
            if subprocess.run(["umount", "-l", self.covered()], check=False).returncode != 0:
                break
        if self.group:
            self.group.close()
            self.group = None
        if code != 0:
            m.say(f"{self.name} ended with exit code {code}: {self.last_words()}")
        return code == 0


class Plain(Peer):
    """(b) a file on the same disk, written in full before."""

    id, name = "b", "plain file"

    def path(self, kind, number=0):
        return f"{self.work}/plain.{kind}{number or ''}"

    def prepare(self):
        for kind, size in self.sizes.items():
            if not os.path.exists(self.path(kind)):
                m.prewrite(self.path(kind), size)

    def before(self, kind, count=1):
        for number in range(1, count):
            if not os.path.exists(self.path(kind, number)):
                m.prewrite(self.path(kind, number), self.sizes[kind] // count)

    def serve(self, kind, memory_bytes=0):
        self.kind = kind


class Null(Peer):
    """(a) FUSE and nothing behind it."""

    id, name = "a", "null FUSE"

    def argv(self, kind):
        sizes = ["--size", str(self.sizes[kind]), "--disks", str(DISKS_MAX)]
        return [self.program("bench_nullfuse"), *sizes, self.mountpoint]


class Pass(Peer):
    """(p) FUSE and the plain file behind it."""

    id, name, many = "p", "pass-through", False

    def __init__(self, work, bin_dir, sizes):
        super().__init__(work, bin_dir, sizes)
        self.plain = Plain(work, bin_dir, sizes)

    def prepare(self):
        self.plain.prepare()

    def argv(self, kind):
        return [self.program("bench_passfuse"), self.plain.path(kind), self.mountpoint]


class Qcow2(Peer):
    """(c) what one would use otherwise: qcow2 behind the storage daemon of QEMU."""

    id, name, many = "c", "qcow2", False

    def path(self, kind, number=0):
        return f"{self.work}/qcow2.{kind}.raw"

    def image(self, kind):
        return f"{self.work}/{kind}.qcow2"

    def covered(self):
        return self.path(self.kind)

    def make_mountpoint(self):
        with open(self.covered(), "ab"):  # a file is mounted on a file
            pass

    def argv(self, kind):
        return [
            "qemu-storage-daemon",
            f"--blockdev=driver=file,node-name=file,filename={self.image(kind)},"
            "cache.direct=on,aio=native",
            "--blockdev=driver=qcow2,node-name=disk,file=file,cache.direct=on",
            f"--export=type=fuse,id=export,node-name=disk,mountpoint={self.path(kind)},writable=on",
        ]

    def ask_to_end(self):
        self.server.terminate()

    def prepare(self):
        for kind, size in self.sizes.items():
            m.call(["qemu-img", "create", "-q", "-f", "qcow2", self.image(kind), str(size)])
            try:
                self.serve(kind)
                m.prewrite(self.path(kind), size)
            finally:
                self.stop()


class Vpool(Peer):
    """(V) a pool as `vpool create` makes it, its backend a directory beside its cache."""

    id, name = "V", "vPool"

    def pool(self, kind):
        return f"{self.work}/pool.{kind}"

    def argv(self, kind):
        return [self.program("vpool"), "mount", "-f", self.pool(kind), self.mountpoint]

    def ask_to_end(self):
        # Without uploads: what a pool has dirty when a job ends is of no use any more.
        vpool = self.program("vpool")
        subprocess.run(
            [vpool, "umount", "--no-upload", self.mountpoint], check=False, capture_output=True
        )

    @property
    def pid(self):
        """Of the worker: the process that was started holds the mount, and does nothing else."""
        workers = m.children_of(self.server.pid) if self.server else []
        if self.server and len(workers) != 1:
            raise m.Failed(f"{self.name} has {len(workers)} workers")
        return workers[0] if workers else None

    def stop(self):
        if super().stop():
            return True
        # A daemon that was killed leaves its ring in shared memory for the next mount.
        with open(f"{self.pool(self.kind)}/ring.id", "rb") as file:
            ring = RING.search(file.read())
        if ring and os.path.exists(ring.group()):
            os.unlink(ring.group())
        return False

    def scrub(self):
        m.call([self.program("vpool"), "scrub", "--wait", self.mountpoint])

    def make(self, kind, count=1):
        """A pool with a disk of random data, or so many, all of it on the backend."""
        shutil.rmtree(self.pool(kind), ignore_errors=True)
        m.call([self.program("vpool"), "create", self.pool(kind)])
        try:
            self.serve(kind)
            for number in range(count):
                m.prewrite(self.path(kind, number), self.sizes[kind] // count)
            m.call([self.program("vpool"), "sync", self.mountpoint])
        finally:
            self.stop()

    def prepare(self):
        if READ in self.sizes:
            self.make(READ)

    def before(self, kind, count=1):
        """Each job that writes starts in a pool of its own: what others left would decide."""
        if kind == WRITE:
            self.make(WRITE, count)


PEERS = {peer.id: peer for peer in (Vpool, Null, Pass, Plain, Qcow2)}
