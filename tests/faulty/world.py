"""A pool of one round of tests/faulty/faults.py: its processes, and a model of what must be in it.

What succeeded must be there; of what failed all or nothing, and that for good (of a write: each sector old or new).
"""

import ctypes
import errno
import json
import os
import shutil
import signal
import stat
import struct
import subprocess
import tempfile
import time

SECTOR = 512
COMMAND_S = 40  # what a command may take
LOOK_S = 15  # for so long the mount may refuse to show something after a fault
SUBREAPER = 36
RESUME_INIT_BYTES = 512


class Lie(Exception):
    """Something is not as it was acknowledged, or as it may be."""


class Ended(Exception):
    """There is no mount any more."""


def become_reaper():
    """Daemons whose parents end become our children, so that we are told how they end."""
    ctypes.CDLL(None, use_errno=True).prctl(SUBREAPER, 1, 0, 0, 0)


class Node:
    def __init__(self, kind, data=b"", target=None):
        self.kind, self.data, self.target = kind, bytearray(data), target
        self.xattrs = {}
        self.snapshots = {}  # name: bytes
        self.mode = None


class World:
    def __init__(self, directory, vpool, faulty, note):
        self.dir, self.vpool, self.faulty, self.note = directory, vpool, faulty, note
        self.pool, self.mnt = f"{directory}/pool", f"{directory}/mnt"
        self.holder = 0
        self.names = {}  # path: Node
        self.failed = []  # what failed, and how
        self.said = []  # by commands that failed
        self.ends = 0  # workers that end because we want it
        self.step = ""
        self.outputs = {}
        self.strict = False  # nothing fails in this mount
        self.command_faults = False  # of commands, not of the mount
        self.stacks = None

    # --- processes ---

    def fired(self):
        """How many calls failed so far."""
        if not self.note:
            return 0
        with open(self.note, "rb") as f:
            return struct.unpack_from("<I", f.read(64), 48)[0]

    def at(self, step):
        self.step = step
        with open(f"{self.dir}/step", "w", encoding="utf8") as f:
            f.write(step)

    def run(self, *arguments, faulty=False, timeout=COMMAND_S):
        environment = dict(os.environ)
        environment.pop("VPOOL_FAULTY", None)
        # Of builds that have one: what a daemon would say to nobody.
        for name in ("ASAN_OPTIONS", "UBSAN_OPTIONS"):
            environment[name] = f"{os.environ.get(name, '')}:log_path={self.dir}/sanitizer"
        if faulty:
            environment["VPOOL_FAULTY"] = self.note
        self.at(f"vpool {' '.join(arguments)}")
        fired = self.fired() if faulty else 0
        # By files, for a daemon may keep what it inherited.
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as error:
            try:
                done = subprocess.run(
                    [self.faulty if faulty else self.vpool, *arguments],
                    stdin=subprocess.DEVNULL, stdout=out, stderr=error, env=environment, timeout=timeout, check=False, cwd=self.dir,
                )
            except subprocess.TimeoutExpired as e:
                self.keep_stacks()
                raise Lie(f"hangs: vpool {' '.join(arguments)}") from e
            for f in (out, error):
                f.seek(0)
            done.stdout, done.stderr = (f.read().decode("utf8", "replace") for f in (out, error))
        if faulty and done.returncode == 0 and self.fired() > fired:
            self.outputs[" ".join(arguments).replace(self.dir, "DIR")] = done.stdout.replace(self.dir, "DIR")
        if done.returncode < 0:
            raise Lie(f"vpool {' '.join(arguments)}: ended by signal {-done.returncode}: {done.stderr}")
        if "assertion failed" in done.stderr or "Sanitizer" in done.stderr:
            raise Lie(f"vpool {' '.join(arguments)}: {done.stderr}")
        if done.returncode != 0:
            self.said.append(f"vpool {' '.join(arguments)}: exit {done.returncode}: {done.stderr.strip()}")
            if not done.stderr.strip() and "error" not in done.stdout and "failed" not in done.stdout:
                raise Lie(f"vpool {' '.join(arguments)}: exit {done.returncode} without a word: {done.stdout}")
        return done

    def is_mounted(self):
        with open("/proc/self/mounts", encoding="utf8") as mounts:
            return any(line.split()[1] == self.mnt for line in mounts)

    def keep_stacks(self):
        """Of what hangs, where there is a debugger."""
        self.stacks = []
        for pid in self.own_processes() if shutil.which("gdb") else []:
            said = subprocess.run(
                ["gdb", "-batch", "-p", str(pid), "-ex", "thread apply all bt 14"],
                capture_output=True, text=True, check=False,
            ).stdout
            self.stacks += [x for x in said.splitlines() if x.startswith("Thread") or x.startswith("#") and " at " in x]

    def find_holder(self):
        """The process that has --worker=PID in its workers' command lines, by those of our mount."""
        for p in os.listdir("/proc"):
            if not p.isdigit():
                continue
            try:
                with open(f"/proc/{p}/cmdline", "rb") as f:
                    words = f.read().decode("utf8", "replace").split("\0")
            except OSError:
                continue
            if self.mnt in words or self.pool in words:
                for word in words:
                    if word.startswith("--worker="):
                        return int(word.split("=")[1])
        return 0

    def mount(self, faulty=False):
        """False: it was refused, in order."""
        self.strict = not faulty
        done = self.run("mount", self.pool, self.mnt, faulty=faulty)
        if done.returncode == 0:
            if not self.is_mounted():
                raise Lie("the mount is acknowledged and not there")
            self.holder = self.find_holder()
            return True
        if not faulty:
            raise Lie(f"cannot be mounted: {done.stderr}")
        deadline = time.monotonic() + 20
        while self.own_processes() and time.monotonic() < deadline:
            self.reap()
            time.sleep(0.01)
        if self.own_processes():
            raise Lie(f"the mount failed, its processes are still there: {done.stderr}")
        if self.is_mounted():
            # As after the death of a daemon: the next mount clears it.
            self.failed.append("a dead mount is left")
        return False

    def own_processes(self):
        found = []
        for p in os.listdir("/proc"):
            if not p.isdigit() or int(p) == os.getpid():
                continue
            try:
                with open(f"/proc/{p}/cmdline", "rb") as f:
                    words = f.read().split(b"\0")
                if (b"mount" in words or any(w.startswith(b"--worker=") for w in words)) and self.pool.encode() in words:
                    found.append(int(p))
            except OSError:
                continue
        return found

    def reap(self):
        """Exit codes of daemons that ended, by pid."""
        ended = {}
        try:
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    break
                ended[pid] = status
        except ChildProcessError:
            pass
        return ended

    def await_end(self):
        """The status of the holder, which ends by itself."""
        deadline = time.monotonic() + COMMAND_S
        self.at("end of the daemon")
        while time.monotonic() < deadline:
            ended = self.reap()
            if self.holder in ended:
                return ended[self.holder]
            time.sleep(0.005)
        self.keep_stacks()
        raise Lie("the daemon does not end")

    def last_worker(self):
        """How many workers there were, and how the one before this ended."""
        for fd in os.listdir(f"/proc/{self.holder}/fd"):
            path = f"/proc/{self.holder}/fd/{fd}"
            try:
                if "memfd:" in os.readlink(path):
                    with open(path, "rb") as f:
                        table = f.read(RESUME_INIT_BYTES + 64)
                    workers = struct.unpack_from("<I", table, 28)[0]
                    return workers, struct.unpack_from("<i", table, 40 + RESUME_INIT_BYTES + 4)[0]
            except OSError:
                continue
        raise Lie("the daemon has no table")

    def judge_workers(self):
        """No worker ended by a signal of its own."""
        workers, status = self.last_worker()
        if os.WIFSIGNALED(status) and os.WTERMSIG(status) != signal.SIGKILL:
            raise Lie(f"worker {workers - 1} ended by signal {os.WTERMSIG(status)}: {self.log_end()}")
        if workers > 1 + self.ends:
            self.failed.append(f"{workers} workers, the last one ended with status {status:#x}")

    def log_text(self):
        try:
            with open(f"{self.pool}/vpool.log", encoding="utf8", errors="replace") as f:
                return f.read()
        except OSError:
            return ""

    def log_end(self):
        return " | ".join(self.log_text().splitlines()[-6:])

    def unmount(self):
        done = self.run("umount", self.mnt)
        if done.returncode != 0 and self.is_mounted():
            if self.strict:
                raise Lie(f"cannot be unmounted: {done.stderr}")
            again = self.run("umount", self.mnt)
            if again.returncode != 0 and self.is_mounted():
                raise Lie(f"cannot be unmounted: {done.stderr}; {again.stderr}")
        status = self.await_end()
        self.holder = 0
        if os.WIFSIGNALED(status) or os.waitstatus_to_exitcode(status) >= 128:
            raise Lie(f"the daemon ended with status {status:#x}: {self.log_end()}")
        if status != 0 and self.strict:
            raise Lie(f"the daemon ended with status {status:#x}: {self.log_end()}")

    def end_all(self):
        """By force: what is left of a round that failed."""
        for _ in range(200):
            left = self.own_processes()
            if not left:
                break
            for pid in left:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
            time.sleep(0.02)
        while self.is_mounted() and subprocess.run(["umount", "-l", self.mnt], capture_output=True, check=False).returncode == 0:
            continue
        self.remove_rings()

    def remove_rings(self):
        """Of pools that nobody will mount any more."""
        for entry in os.scandir(self.dir):
            for ring in self.rings_of(entry.path) if entry.is_dir() and entry.name != "mnt" else []:
                os.unlink(ring)

    def judge_rings(self):
        """A closed pool has no shared memory."""
        left = self.rings_of(self.pool)
        if left:
            raise Lie(f"rings are left: {left}")

    @staticmethod
    def rings_of(pool):
        st = os.stat(pool)
        mark = f"-{st.st_dev:x}-{st.st_ino:x}-"
        return [f"/dev/shm/{x}" for x in os.listdir("/dev/shm") if x.startswith("vpool-") and mark in x]

    def judge_log(self):
        text = self.log_text()
        if "assertion failed" in text:
            raise Lie(next(x for x in text.splitlines() if "assertion failed" in x))
        for name in os.listdir(self.dir):
            if name.startswith("sanitizer."):
                with open(f"{self.dir}/{name}", encoding="utf8", errors="replace") as f:
                    raise Lie(f.read()[:4000])

    def check(self):
        done = self.run("check", "--data", self.pool)
        if done.returncode != 0:
            raise Lie(f"check: exit {done.returncode}: {done.stdout}{done.stderr}")

    # --- operations ---

    def path(self, name):
        return f"{self.mnt}/{name}"

    def patiently(self, look):
        """What is looked at after a fault may fail for a moment."""
        deadline = time.monotonic() + LOOK_S
        while True:
            try:
                return look()
            except OSError as e:
                if e.errno in (errno.ENOTCONN, errno.ECONNABORTED) or not self.is_mounted():
                    raise Ended() from e
                if self.strict or time.monotonic() > deadline:
                    raise Lie(f"{self.step}: looking at it: {e}") from e
                self.failed.append(f"{self.step}: looking: {errno.errorcode.get(e.errno)}")
                time.sleep(0.05)

    def do(self, step, act, look):
        """True: it is done. look() tells whether it is, or raises Lie if it is neither nor."""
        self.at(step)
        done = False
        try:
            act()
            done = True
        except OSError as e:
            if e.errno in (errno.ENOTCONN, errno.ECONNABORTED):
                raise Ended() from e
            if self.strict:
                raise Lie(f"{step}: {e}") from e
            self.failed.append(f"{step}: {errno.errorcode.get(e.errno, e.errno)}")
        is_there = self.patiently(look)
        if done and not is_there:
            raise Lie(f"{step}: acknowledged, and it is not so")
        return is_there

    def command(self, *arguments, look=None):
        """A verb; without look it only has to answer."""
        name = " ".join(arguments)
        done = self.run(*arguments, faulty=self.command_faults)
        if done.returncode != 0 and self.strict and not self.command_faults:
            raise Lie(f"{name}: exit {done.returncode}: {done.stdout}{done.stderr}")
        if done.returncode != 0:
            self.failed.append(f"{name}: exit {done.returncode}")
        elif not self.fired() or arguments[0] == "list" or arguments[-1] == "list":
            self.outputs[name.replace(self.dir, "DIR")] = done.stdout.replace(self.dir, "DIR")
        if look is None:
            return done.returncode == 0
        is_there = self.patiently(look)
        if done.returncode == 0 and not is_there:
            raise Lie(f"{name}: acknowledged, and it is not so")
        return is_there

    def exists(self, name):
        try:
            os.lstat(self.path(name))
            return True
        except FileNotFoundError:
            return False

    def read(self, name):
        fd = os.open(self.path(name), os.O_RDONLY)
        try:
            parts = []
            while True:
                part = os.read(fd, 1 << 20)
                if not part:
                    return b"".join(parts)
                parts.append(part)
        finally:
            os.close(fd)

    def settle(self, node, name, before, after):
        """What a change that failed left: each sector is old or new, and the length is one of both."""

        def look():
            return self.read(name)

        now = self.patiently(look)
        if len(now) not in (len(before), len(after)):
            between = min(len(before), len(after)) <= len(now) <= max(len(before), len(after))
            if not between:
                raise Lie(f"{self.step}: length {len(now)}, not {len(before)} or {len(after)}")
        for at in range(0, len(now), SECTOR):
            piece = now[at : at + SECTOR]
            size = len(piece)
            olds = {bytes(before[at : at + size]).ljust(size, b"\0"), bytes(after[at : at + size]).ljust(size, b"\0")}
            if piece not in olds:
                raise Lie(f"{self.step}: {name} at {at} is neither old nor new")
        node.data = bytearray(now)

    def change(self, step, name, act, after):
        """Of a file's data."""
        node = self.names[name]
        before = bytes(node.data)
        self.at(step)
        try:
            act()
            node.data = bytearray(after)
            return True
        except OSError as e:
            if e.errno in (errno.ENOTCONN, errno.ECONNABORTED):
                raise Ended() from e
            if self.strict:
                raise Lie(f"{step}: {e}") from e
            self.failed.append(f"{step}: {errno.errorcode.get(e.errno, e.errno)}")
        self.settle(node, name, before, after)
        return False

    def write(self, name, at, data, sync=False, direct=False):
        node = self.names[name]
        after = bytearray(node.data.ljust(at, b"\0"))
        after[at : at + len(data)] = data

        def act():
            fd = os.open(self.path(name), os.O_RDWR | (os.O_DIRECT if direct else 0))
            try:
                if direct:
                    import mmap

                    memory = mmap.mmap(-1, len(data))
                    memory.write(data)
                    done = os.pwritev(fd, [memory], at)
                else:
                    done = os.pwrite(fd, data, at)
                if done != len(data):
                    raise OSError(errno.EIO, "short write")
                if sync:
                    os.fsync(fd)
            finally:
                os.close(fd)

        return self.change(f"write {name} {at}+{len(data)}", name, act, after)

    def truncate(self, name, size):
        after = bytes(self.names[name].data[:size]).ljust(size, b"\0")
        return self.change(f"truncate {name} {size}", name, lambda: os.truncate(self.path(name), size), after)

    def create(self, name):
        def act():
            os.close(os.open(self.path(name), os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))

        if self.do(f"create {name}", act, lambda: self.exists(name)):
            self.names[name] = Node("file")
            return True
        return False

    def unlink(self, name):
        if self.do(f"unlink {name}", lambda: os.unlink(self.path(name)), lambda: not self.exists(name)):
            del self.names[name]
            return True
        return False

    def mkdir(self, name):
        if self.do(f"mkdir {name}", lambda: os.mkdir(self.path(name)), lambda: self.exists(name)):
            self.names[name] = Node("dir")
            return True
        return False

    def rmdir(self, name):
        if self.do(f"rmdir {name}", lambda: os.rmdir(self.path(name)), lambda: not self.exists(name)):
            del self.names[name]
            return True
        return False

    def symlink(self, name, target):
        if self.do(f"symlink {name}", lambda: os.symlink(target, self.path(name)), lambda: self.exists(name)):
            self.names[name] = Node("link", target=target)
            return True
        return False

    def link(self, old, new):
        if self.do(f"link {new}", lambda: os.link(self.path(old), self.path(new)), lambda: self.exists(new)):
            self.names[new] = self.names[old]
            return True
        return False

    def rename(self, old, new):
        ino = self.patiently(lambda: os.lstat(self.path(old)).st_ino)

        def look():
            done = self.exists(new) and os.lstat(self.path(new)).st_ino == ino
            if done == self.exists(old):
                raise Lie(f"rename {old} {new}: neither nor")
            return done

        if self.do(f"rename {old} {new}", lambda: os.rename(self.path(old), self.path(new)), look):
            self.names[new] = self.names.pop(old)
            for path in [p for p in self.names if p.startswith(old + "/")]:
                self.names[new + path[len(old) :]] = self.names.pop(path)
            return True
        return False

    def set_xattr(self, name, key, value):
        def look():
            try:
                return os.getxattr(self.path(name), key) == value
            except OSError as e:
                if e.errno == errno.ENODATA:
                    return False
                raise

        if self.do(f"setxattr {name} {key}", lambda: os.setxattr(self.path(name), key, value), look):
            self.names[name].xattrs[key] = value

    def remove_xattr(self, name, key):
        def look():
            return key not in os.listxattr(self.path(name))

        if key in self.names[name].xattrs:
            if self.do(f"removexattr {name} {key}", lambda: os.removexattr(self.path(name), key), look):
                del self.names[name].xattrs[key]

    def chmod(self, name, mode):
        def look():
            return stat.S_IMODE(os.lstat(self.path(name)).st_mode) == mode

        if self.do(f"chmod {name}", lambda: os.chmod(self.path(name), mode), look):
            self.names[name].mode = mode

    def punch(self, name, at, size):
        node = self.names[name]
        after = bytearray(node.data)
        after[at : at + size] = bytes(len(after[at : at + size]))

        def act():
            libc = ctypes.CDLL(None, use_errno=True)
            fd = os.open(self.path(name), os.O_RDWR)
            try:
                if libc.fallocate(fd, 3, ctypes.c_long(at), ctypes.c_long(size)) != 0:
                    raise OSError(ctypes.get_errno(), "fallocate")
            finally:
                os.close(fd)

        return self.change(f"punch {name} {at}+{size}", name, act, after)

    # --- commands that change something ---

    def has_snapshot(self, name, snapshot):
        return self.exists(f".snapshots/{name}/{snapshot}")

    def snapshot(self, name, snapshot):
        if self.command("snapshot", "create", "--name", snapshot, self.path(name), look=lambda: self.has_snapshot(name, snapshot)):
            self.names[name].snapshots[snapshot] = bytes(self.names[name].data)
            return True
        return False

    def delete_snapshot(self, name, snapshot):
        if snapshot not in self.names[name].snapshots:
            return
        if self.command(
            "snapshot", "delete", self.path(name), snapshot, look=lambda: not self.has_snapshot(name, snapshot)
        ):
            del self.names[name].snapshots[snapshot]

    def rollback(self, name, snapshot):
        node = self.names[name]
        if snapshot not in node.snapshots:
            return
        before, after = bytes(node.data), node.snapshots[snapshot]
        is_done = self.command("snapshot", "rollback", "--force", self.path(name), snapshot)
        now = self.patiently(lambda: self.read(name))
        if bytes(now) not in ({after} if is_done else {before, after}):
            raise Lie(f"rollback of {name} to {snapshot}: it is {'not the snapshot' if is_done else 'neither old nor new'}")
        node.data = bytearray(now)
        if bytes(now) == after:
            # Younger ones went; that a failed one left them is as good.
            there = self.patiently(lambda: os.listdir(self.path(f".snapshots/{name}")))
            for other in [s for s in node.snapshots if s not in there]:
                if other == snapshot or list(node.snapshots).index(other) < list(node.snapshots).index(snapshot):
                    raise Lie(f"rollback of {name} took snapshot {other}")
                del node.snapshots[other]

    def clone(self, name, new, snapshot=None):
        node = self.names[name]
        if snapshot and snapshot not in node.snapshots:
            return False
        source = self.path(name) + (f"@{snapshot}" if snapshot else "")
        if self.command("clone", source, self.path(new), look=lambda: self.exists(new)):
            self.names[new] = Node("file", node.snapshots[snapshot] if snapshot else node.data)
            return True
        return False

    # --- all of it ---

    def listing(self, top=""):
        found = {}
        for entry in os.listdir(self.path(top) if top else self.mnt):
            name = f"{top}/{entry}" if top else entry
            st = os.lstat(self.path(name))
            found[name] = st
            if stat.S_ISDIR(st.st_mode):
                found.update(self.listing(name))
        return found

    def verify(self, when):
        """All that is there, and nothing else."""
        found = self.patiently(self.listing)
        self.at(f"verify {when}")
        if set(found) != set(self.names):
            missing, more = set(self.names) - set(found), set(found) - set(self.names)
            raise Lie(f"{when}: missing {sorted(missing)}, not expected {sorted(more)}")
        for name, node in self.names.items():
            self.at(f"verify {when} {name}")
            if node.kind == "link":
                if self.patiently(lambda n=name: os.readlink(self.path(n))) != node.target:
                    raise Lie(f"{when}: symbolic link {name} differs")
                continue
            if node.mode is not None and stat.S_IMODE(found[name].st_mode) != node.mode:
                raise Lie(f"{when}: mode of {name}")
            there = self.patiently(lambda n=name: {k: os.getxattr(self.path(n), k) for k in os.listxattr(self.path(n))})
            there = {k: v for k, v in there.items() if k.startswith("user.x")}
            if there != node.xattrs:
                raise Lie(f"{when}: attributes of {name}: {there}, not {node.xattrs}")
            if node.kind != "file":
                continue
            self.same(f"{when}: {name}", self.patiently(lambda n=name: self.read(n)), node.data)
            if node.snapshots:
                there = self.patiently(lambda n=name: os.listdir(self.path(f".snapshots/{n}")))
                if set(there) != set(node.snapshots):
                    raise Lie(f"{when}: snapshots of {name}: {sorted(there)}, not {sorted(node.snapshots)}")
                for s, data in node.snapshots.items():
                    self.same(f"{when}: {name}@{s}", self.patiently(lambda n=name, x=s: self.read(f".snapshots/{n}/{x}")), data)

    def same(self, what, now, want):
        if bytes(now) == bytes(want):
            return
        if len(now) != len(want):
            raise Lie(f"{what}: {len(now)} bytes, not {len(want)}")
        at = next(i for i in range(len(want)) if now[i] != want[i])
        raise Lie(f"{what}: differs at {at}")

    def status(self):
        for _ in range(100):
            done = self.run("status", "--json", self.mnt)
            if done.returncode == 0:
                return json.loads(done.stdout)
            time.sleep(0.05)
        raise Lie(f"no status: {done.stdout}")
