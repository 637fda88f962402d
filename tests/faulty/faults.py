#!/usr/bin/env python3
"""Each call of `vpool` that can fail does, one in each round, while the pool is used.

    tests/faulty/faults.py --bin-dir=BUILD [--all] [--seconds=N] [--seed=N] [--scenario=NAME] [--only=TEXT] [--dir=DIR]

A round takes a copy of a small pool, mounts it, does what a scenario says, unmounts it, mounts it again without faults,
compares all that there is, and checks it. The first round of a scenario notes which calls are made, by which path (the
call and what called it, FRAMES deep); each further one has one call of one path fail, once. Expected is an error or a
wait, and the truth about everything (world.py); no process may end by a signal, and the mount goes on, unless the fault
came while it was made or ended.

Without --all a random sample runs for so many seconds. The last line counts rounds: `N passed, N failed, N skipped`.
"""

import argparse
import collections
import copy
import errno
import json
import os
import pickle
import random
import re
import shutil
import signal
import struct
import subprocess
import sys
import time
import traceback

from world import Ended, Lie, Node, World, become_reaper

MAGIC = 0x0159544C55414656
HEAD = struct.Struct("<QIIQQIIQII24sQ")
ENTRY = struct.Struct("<QQII8Q24s16s")
ENTRIES = 16384
NOTE, FAIL = 1, 2
FRAMES = 4
SAMPLE = 3  # scenarios of a short run
ROUND_S = 100  # a round that takes longer hangs
SHORT, SPOIL = 9001, 9002

# Sites that cannot do better, as "call function": why.
EXCLUDED = {}

SETTINGS = """[pool]
sco_size = 1M
disk_threshold = 128K
[cache]
ring_size = 4M
reserve = 1M
metadata_cache = 4M
flush_interval = 50ms
checkpoint_interval = 1s
[backend]
upload_interval = 1s
attempts_max = 2
grace_time = 0ns
[fuse]
threads = 2
max_background = 64
parked_max = 4
"""


def bytes_of(seed, size):
    return random.Random(seed).randbytes(size)


# --- scenarios: what is done while a call fails --------------------------------------------------


def begin(w):
    """What all pools have before."""
    for name in ("d0", "d0/sub"):
        w.mkdir(name)
    for name, size in (("old.img", 300_000), ("keep.txt", 9_000), ("d0/b.img", 70_000), ("gone.img", 20_000)):
        w.create(name)
        w.write(name, 0, bytes_of(name, size), sync=True)
    w.set_xattr("keep.txt", "user.x.a", b"one")
    w.symlink("to", "keep.txt")
    w.snapshot("old.img", "s0")
    w.snapshot("gone.img", "s0")
    w.write("old.img", 5000, bytes_of("again", 20_000))


def nothing(w):
    w.command("status", w.mnt)


def files(w):
    w.mkdir("d")
    w.create("d/f")
    if "d/f" in w.names:
        w.write("d/f", 0, bytes_of(1, 10_000), sync=True)
        w.write("d/f", 9_999, bytes_of(2, 3_333))
        w.link("d/f", "d/l")
        w.set_xattr("d/f", "user.x.k", b"v" * 40)
        w.set_xattr("d/f", "user.x.l", b"w")
        w.remove_xattr("d/f", "user.x.k")
        w.chmod("d/f", 0o640)
        w.truncate("d/f", 5_000)
        w.truncate("d/f", 20_000)
        w.punch("d/f", 1_000, 3_000)
        w.rename("d/f", "d/g.img")
    w.symlink("d/s", "nowhere")
    w.rename("keep.txt", "d0/kept.txt")
    w.set_xattr("d0", "user.x.d", b"dir")
    w.create("grows")
    if "grows" in w.names:
        w.write("grows", 0, bytes_of(3, 200_000))  # becomes a disk
        w.write("grows", 200_000, bytes_of(4, 10), sync=True)
        # Without a name, and used all the same.
        data = bytes(w.names["grows"].data)
        fd = w.patiently(lambda: os.open(w.path("grows"), os.O_RDWR))
        w.unlink("grows")
        w.same("a file without a name", w.patiently(lambda: os.pread(fd, len(data), 0)), data)
        os.close(fd)
    w.rename("d0", "d/d0")
    w.unlink("to")
    if "d/d0/sub" in w.names:
        w.rmdir("d/d0/sub")
    w.create("over")
    if "over" in w.names:
        w.write("over", 0, bytes_of(5, 4_096), sync=True)
        w.do_replace("over", "d/d0/kept.txt")
    w.patiently(lambda: os.statvfs(w.mnt))


def disks(w):
    w.create("a.img")
    if "a.img" in w.names:
        w.write("a.img", 0, bytes_of(6, 131_072), sync=True, direct=True)
        w.write("a.img", 4_096, bytes_of(7, 4_096), direct=True)
        w.write("a.img", 1_000, bytes_of(8, 9_000))
        w.truncate("a.img", 1 << 20)
        w.write("a.img", 600_000, bytes_of(9, 100_000), sync=True)
        w.punch("a.img", 8_192, 40_000)
        w.snapshot("a.img", "one")
        w.write("a.img", 0, bytes_of(10, 50_000))
        w.snapshot("a.img", "two")
        w.clone("a.img", "c1.img", "one")
        w.clone("a.img", "c2.img")
        w.write("a.img", 300_000, bytes_of(11, 4_096), sync=True)
        w.rollback("a.img", "one")
        w.copy("a.img", "copy.img")
    w.delete_snapshot("old.img", "s0")
    w.rollback("gone.img", "s0")


def verbs(w):
    w.snapshot("old.img", "now")
    w.command("snapshot", "list", w.path("old.img"))
    w.command("snapshot", "info", w.path("old.img"), "s0")
    w.command("snapshot", "schedule", "--every", "hourly", "--keep", "all:1d", w.path("d0"))
    w.command("snapshot", "prune", w.path("old.img"))
    w.command("list", w.mnt)
    w.command("info", w.path("old.img"))
    w.command("stats", w.mnt)
    w.template("old.img")
    w.clone("old.img", "of_template.img")
    w.throw_away("gone.img")
    w.command("trash", "list", w.mnt)
    w.bring_back("gone.img")
    w.throw_away("d0/b.img")
    w.command("trash", "empty", "--all", w.mnt)
    w.command("config", "reload", w.pool)
    w.command("sync", w.mnt)
    w.command("scrub", "--wait", w.mnt)
    w.command("status", w.mnt)


def over(w):
    """Workers end, and others go on."""
    w.create("a.img")
    if "a.img" in w.names:
        w.write("a.img", 0, bytes_of(12, 100_000), sync=True)
        w.write("a.img", 50_000, bytes_of(13, 60_000))
    w.kill_worker()
    if "a.img" in w.names:
        w.write("a.img", 20_000, bytes_of(14, 30_000), sync=True)
    w.create("more")
    w.upgrade()
    w.unlink("keep.txt")
    if "a.img" in w.names:
        w.write("a.img", 120_000, bytes_of(15, 10_000), sync=True)


def cold(w):
    """The store has it, the flash has nothing."""
    w.verify("cold")
    w.write("old.img", 100_001, bytes_of(16, 77))
    w.write("d0/b.img", 4_096, bytes_of(17, 8_192), sync=True)
    w.command("sync", w.mnt)


def attempt(w, *arguments):
    """A command that may fail."""
    done = w.run(*arguments, faulty=True)
    if done.returncode == 0 and not w.fired():
        w.outputs[" ".join(arguments).replace(w.dir, "DIR")] = done.stdout.replace(w.dir, "DIR")
    return done.returncode == 0


def exam(w):
    attempt(w, "backend", "check", f"file://{w.dir}/store")


def offline(w):
    """Commands on pools that are not mounted."""
    for words in (["config", "show"], ["config", "check"], ["status"], ["check", "--data"]):
        attempt(w, *words, w.pool)
    new, restored = f"{w.dir}/new", f"{w.dir}/restored"
    if not attempt(w, "create", "--sco-size", "1M", new):
        # Nothing, or whole.
        done = w.run("check", new)
        if done.returncode != 0:
            done = w.run("create", "--sco-size", "1M", new)
        if done.returncode != 0:
            raise Lie(f"create: not again either: {done.stderr}")
    done = w.run("check", new)
    if done.returncode != 0:
        raise Lie(f"created: {done.stderr}{done.stdout}")
    if not attempt(w, "restore", "--backend", f"file://{w.pool}/objects", restored) and w.run("check", restored).returncode != 0:
        done = w.run("restore", "--backend", f"file://{w.pool}/objects", restored)
        if done.returncode != 0:
            raise Lie(f"restore: not again either: {done.stderr}")
    w.pool = restored


def store_url():
    """A place of its own on the store of VPOOL_E2E_STORE."""
    url = os.environ["VPOOL_TEST_S3_URL" if os.environ.get("VPOOL_E2E_STORE") == "s3" else "VPOOL_TEST_SWIFT_URL"]
    place, _, rest = url.partition("?")
    return f"{place}/faults-{os.urandom(8).hex()}?{rest}"


def net_exam(w):
    """What a pool needs of a store of the network."""
    attempt(w, "backend", "check", store_url())


def net(w):
    """A pool that is made on a store of the network."""
    w.create("a.img")
    if "a.img" in w.names:
        w.write("a.img", 0, bytes_of(6, 100_000), sync=True)
    w.command("sync", w.mnt)
    w.unlink("old.img")
    w.command("sync", w.mnt)
    w.command("scrub", "--wait", w.mnt)


class Scenario:
    def __init__(self, name, act, base="used", commands=False):
        self.name, self.act, self.base, self.commands = name, act, base, commands


# A path belongs to the first one that has it. With commands it is these that fail, not the mount.
SCENARIOS = [
    Scenario("mount", nothing),
    Scenario("files", files),
    Scenario("disks", disks),
    Scenario("verbs", verbs),
    Scenario("over", over),
    Scenario("cold", cold, base="cold"),
    Scenario("commands", verbs, commands=True),
    Scenario("offline", offline, commands=True),
    Scenario("exam", exam, commands=True),
    Scenario("net", net, base="net"),
    Scenario("net-exam", net_exam, commands=True),
]


class Run(World):
    """Operations that only scenarios have."""

    def do_replace(self, old, new):
        """Rename onto what is there."""
        if new not in self.names:
            return
        ino = self.patiently(lambda: os.lstat(self.path(old)).st_ino)

        def look():
            done = os.lstat(self.path(new)).st_ino == ino
            if done == self.exists(old):
                raise Lie(f"rename {old} {new}: neither nor")
            return done

        if self.do(f"replace {new} by {old}", lambda: os.rename(self.path(old), self.path(new)), look):
            self.names[new] = self.names.pop(old)

    def copy(self, name, new):
        if not self.create(new):
            return
        data = bytes(self.names[name].data)

        def act():
            fd, to = os.open(self.path(name), os.O_RDONLY), os.open(self.path(new), os.O_RDWR)
            try:
                done = 0
                while done < len(data):
                    n = os.copy_file_range(fd, to, len(data) - done)
                    if n == 0:
                        raise OSError(errno.EIO, "copy ended early")
                    done += n
            finally:
                os.close(fd)
                os.close(to)

        self.at(f"copy {name} {new}")
        try:
            act()
            self.names[new].data = bytearray(data)
        except OSError as e:
            if self.strict:
                raise Lie(f"copy: {e}") from e
            self.failed.append(f"copy: {errno.errorcode.get(e.errno)}")
            now = self.patiently(lambda: self.read(new))
            if now != data[: len(now)]:
                raise Lie("copy: what is there is no part of the source") from e
            self.names[new].data = bytearray(now)

    def template(self, name):
        """Nothing of it changes any more."""

        def look():
            try:
                os.close(os.open(self.path(name), os.O_RDWR))
            except PermissionError:
                return True
            return False

        self.command("template", self.path(name), look=look)

    def throw_away(self, name):
        node = self.names[name]
        if self.unlink(name):
            self.trash = getattr(self, "trash", {})
            self.trash[name] = node

    def bring_back(self, name):
        if name not in getattr(self, "trash", {}):
            return
        if self.command("trash", "restore", self.mnt, f"/{name}", look=lambda: self.exists(name)):
            self.names[name] = self.trash.pop(name)

    def wait_served(self):
        self.at("wait for another worker")
        self.patiently(lambda: os.statvfs(self.mnt))

    def kill_worker(self):
        pid = self.status()["worker_pid"]
        self.ends += 1
        os.kill(pid, signal.SIGKILL)
        self.wait_served()

    def upgrade(self):
        self.ends += 1
        self.command("upgrade", self.mnt)
        self.wait_served()


# --- what the program is told ----------------------------------------------------------------------


def make_note(path, mode, key=0, hit=0, times=1, variant=0, name=b""):
    with open(path, "wb") as f:
        f.truncate(HEAD.size + ENTRIES * ENTRY.size)
        f.write(HEAD.pack(MAGIC, mode, FRAMES, key, hit, times, variant, 0, 0, 0, name, 0))


def read_head(path):
    with open(path, "rb") as f:
        return HEAD.unpack(f.read(HEAD.size))


class Path:
    """Of one call that can fail."""

    def __init__(self, fields, scenario):
        self.key, self.hits, count, self.variants = fields[:4]
        self.frames = fields[4 : 4 + min(count, FRAMES)]
        self.call = fields[12].rstrip(b"\0").decode()
        self.thread = fields[13].rstrip(b"\0").decode()
        self.scenario = scenario

    @property
    def site(self):
        return (self.call, self.frames[:1])


def read_paths(path, scenario):
    with open(path, "rb") as f:
        data = f.read()
    if HEAD.unpack_from(data)[-1]:
        raise SystemExit("too many paths for the table")
    found = []
    for i in range(ENTRIES):
        fields = ENTRY.unpack_from(data, HEAD.size + i * ENTRY.size)
        if fields[0]:
            found.append(Path(fields, scenario))
    return found


class Names:
    """Of places in the program."""

    def __init__(self, program):
        self.program, self.known = program, {}

    def learn(self, frames):
        new = sorted(set(frames) - set(self.known))
        if not new:
            return
        said = subprocess.run(
            ["addr2line", "-f", "-s", "-i", "-a", "-e", self.program, *[hex(x - 1) for x in new]],
            capture_output=True, text=True, check=True,
        ).stdout.splitlines()
        frame, pairs = -1, []
        for line in said:
            if line.startswith("0x"):
                frame += 1
                self.known[new[frame]] = ("", "")
                pairs = []
                continue
            pairs.append(line)
            if len(pairs) % 2 == 0:  # what is inlined comes first
                functions = [x for x, at in zip(pairs[::2], pairs[1::2]) if "." not in at or not at.split(":")[0].endswith(".h")]
                self.known[new[frame]] = ("/".join(functions) or pairs[0], pairs[-1].split(" ")[0])

    def of(self, path):
        self.learn(path.frames)
        return f"{path.call}: " + " < ".join(f"{f} {at}" for f, at in (self.known[x] for x in path.frames))

    def function(self, path):
        self.learn(path.frames)
        return self.known[path.frames[0]][0] if path.frames else "?"


# --- rounds ----------------------------------------------------------------------------------------


class Base:
    """A closed pool that rounds begin with."""

    def __init__(self, directory, names):
        self.dir, self.names = directory, names


def make_pool(w, base):
    if base.dir:
        copy_pool(base, w.dir)
        return
    url = store_url()
    if w.run("create", "--sco-size", "1M", "--backend", url, w.pool).returncode != 0:
        raise Lie(f"cannot be made: {w.said}")
    with open(f"{w.pool}/vpool.conf", "w", encoding="utf8") as f:
        f.write(SETTINGS.replace("[backend]", f"[backend]\nurl = {url}"))
    w.names["old.img"] = Node("file")
    w.mount()
    with open(f"{w.mnt}/old.img", "wb") as f:
        f.write(bytes_of("old.img", 50_000))
    w.names["old.img"].data = bytearray(bytes_of("old.img", 50_000))
    w.unmount()


def copy_pool(base, directory):
    shutil.copytree(f"{base.dir}/pool", f"{directory}/pool", symlinks=True, copy_function=shutil.copy2)


def act_round(w, scenario):
    """The mount under faults; False: there was none."""
    if scenario.act in (offline, exam, net_exam):
        scenario.act(w)
        return
    if not w.mount(faulty=not scenario.commands):
        return
    w.command_faults = scenario.commands
    try:
        scenario.act(w)
        w.command_faults = False
        # It serves as before.
        w.at("after it")
        name = "after.img"
        for _ in range(4):
            if w.create(name) and w.write(name, 0, bytes_of(18, 5_000), sync=True):
                break
            name = "x" + name
        else:
            raise Lie("does not serve any more")
        w.verify("live")
        w.judge_workers()
        state = w.status()
        if state["state"] != "ok":
            w.failed.append(f"state {state['state']}: {state.get('reason')}")
        w.unmount()
    except Ended:
        w.failed.append("the mount ended")
        status = w.await_end()
        w.holder = 0
        if os.WIFSIGNALED(status) or os.waitstatus_to_exitcode(status) >= 128:
            raise Lie(f"the mount ended with status {status:#x}: {w.log_end()}") from None
        fired = read_head(w.note)[8]
        raise Lie(f"the mount ended ({'fault' if fired else 'no fault'}): {w.log_end()}") from None
    finally:
        w.command_faults = False


def play(w, scenario, outputs):
    act_round(w, scenario)
    w.judge_log()
    if w.is_mounted() and not w.own_processes():
        subprocess.run(["umount", w.mnt], capture_output=True, check=False)
    w.mount()
    w.verify("mounted again")
    w.unmount()
    w.judge_log()
    w.check()
    w.judge_rings()
    if outputs:
        for command, said in w.outputs.items():
            # Those say that something could not be looked at.
            if "did not answer" in said:
                continue
            if command in outputs and normal(said) != normal(outputs[command]):
                raise Lie(f"{command} says with success:\n{said}instead of\n{outputs[command]}")


UNITS = {"KiB/s", "MiB/s", "GiB/s", "B/s", "us", "ms", "ns", "s", "B", "KiB", "MiB", "GiB", "yes", "no"}


def normal(text):
    """Without what differs from run to run: the words of each line that are neither numbers nor units."""
    return sorted([x for x in line.split() if x not in UNITS and not re.search(r"[0-9]", x)] for line in text.splitlines())


def one_round(options, base, scenario, directory, note, outputs, ret):
    become_reaper()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    w = Run(directory, options.program, options.program, note)
    w.names = copy.deepcopy(base.names)
    result = {"lie": None}
    try:
        os.makedirs(w.mnt, exist_ok=True)
        os.makedirs(f"{directory}/store", exist_ok=True)
        make_pool(w, base)
        play(w, scenario, outputs)
        result["outputs"] = w.outputs
    except Lie as e:
        result["lie"] = str(e)
    except Ended:
        result["lie"] = f"{w.step}: the mount ended: {w.log_end()}"
    except Exception:
        result["lie"] = f"{w.step}: {traceback.format_exc()}"
    result["failed"], result["said"] = w.failed, w.said
    if result["lie"]:
        result["log"], result["stacks"] = w.log_text()[-3000:], w.stacks
    w.end_all()
    with open(ret, "wb") as f:
        pickle.dump(result, f)


class Round:
    """One that runs in a process of its own."""

    def __init__(self, options, base, scenario, number, fault=None, outputs=None):
        self.options, self.fault, self.scenario = options, fault, scenario
        self.dir = f"{options.dir}/r{number}"
        os.makedirs(self.dir)
        self.note = f"{self.dir}/note"
        if fault:
            path, hit, variant = fault
            make_note(self.note, FAIL, path.key, hit, 1, variant, path.call.encode())
        else:
            make_note(self.note, NOTE)
        self.started = time.monotonic()
        sys.stdout.flush()
        self.pid = os.fork()
        if self.pid == 0:
            r = 1
            try:
                one_round(options, base, scenario, self.dir, self.note, outputs, f"{self.dir}/result")
                r = 0
            finally:
                os._exit(r)

    def stacks(self):
        """What waits for what."""
        found = []
        for p in World(self.dir, "", "", "").own_processes():
            try:
                for t in os.listdir(f"/proc/{p}/task"):
                    with open(f"/proc/{p}/task/{t}/comm", encoding="utf8") as f:
                        name = f.read().strip()
                    with open(f"/proc/{p}/task/{t}/wchan", encoding="utf8") as f:
                        found.append(f"{p} {name}: {f.read()}")
            except OSError:
                continue
        return found

    def end(self):
        """By force."""
        w = World(self.dir, "", "", "")
        os.kill(self.pid, signal.SIGKILL)
        w.end_all()  # it may be in a call of the mount's
        os.waitpid(self.pid, 0)
        w.end_all()

    def poll(self):
        """None: it is not over."""
        pid, status = os.waitpid(self.pid, os.WNOHANG)
        late = time.monotonic() - self.started > ROUND_S
        if pid == 0 and not late:
            return None
        result = {"lie": f"the round itself ended with {status}", "failed": [], "said": []}
        if pid == 0:
            step = ""
            try:
                with open(f"{self.dir}/step", encoding="utf8") as f:
                    step = f.read()
            except OSError:
                pass
            w = World(self.dir, "", "", "")
            result = {"lie": f"hangs: {step}", "failed": [], "said": [], "log": w.log_text()[-3000:], "stacks": self.stacks()}
            if self.options.debug:
                input(f"hangs in {self.dir}, process {self.pid}, {w.own_processes()}: {step} ")
            self.end()
        elif os.path.exists(f"{self.dir}/result"):
            with open(f"{self.dir}/result", "rb") as f:
                result = pickle.load(f)
        result["seconds"] = time.monotonic() - self.started
        result["fired"] = read_head(self.note)[8]
        if self.options.keep and result["lie"]:
            print(f"kept: {self.dir}")
        elif self.fault:
            shutil.rmtree(self.dir, ignore_errors=True)
        return result


class Driver:
    def __init__(self, options):
        self.o = options
        self.names = Names(options.program)
        self.numbers = 0
        self.counts = collections.Counter()
        self.outputs = {}
        self.running = []

    def number(self):
        self.numbers += 1
        return self.numbers

    def make_bases(self):
        directory = f"{self.o.dir}/base"
        os.makedirs(f"{directory}/mnt")
        w = Run(directory, self.o.program, self.o.program, "")
        w.run("create", "--sco-size", "1M", w.pool)
        with open(f"{w.pool}/vpool.conf", "w", encoding="utf8") as f:
            f.write(SETTINGS)
        become_reaper()
        try:
            w.mount()
            begin(w)
            w.command("sync", w.mnt)
            w.unmount()
        finally:
            w.end_all()
        self.bases = {"used": Base(directory, w.names)}
        cold_dir = f"{self.o.dir}/cold"
        os.makedirs(cold_dir)
        # Its objects are below it, as those of the first.
        os.makedirs(f"{cold_dir}/pool")
        shutil.copytree(f"{directory}/pool/objects", f"{cold_dir}/objects")
        done = w.run("restore", "--backend", f"file://{cold_dir}/objects", f"{cold_dir}/pool")
        if done.returncode != 0:
            raise SystemExit(done.stderr)
        shutil.move(f"{cold_dir}/objects", f"{cold_dir}/pool/objects")
        with open(f"{cold_dir}/pool/vpool.conf", "w", encoding="utf8") as f:
            f.write(SETTINGS)
        self.bases["cold"] = Base(cold_dir, w.names)
        self.bases["net"] = Base(None, {})

    def await_one(self, running):
        while True:
            for r in running:
                result = r.poll()
                if result is not None:
                    running.remove(r)
                    return r, result
            time.sleep(0.01)

    def scenarios(self):
        """Those that were asked for; else all, or a few of the quick ones."""
        if self.o.scenario:
            return [s for s in SCENARIOS if s.name in self.o.scenario]
        on_network = bool(os.environ.get("VPOOL_E2E_STORE"))
        those = [s for s in SCENARIOS if s.name.startswith("net") == on_network]
        if self.o.all or on_network:
            return those
        quick = [s for s in those if s.name != "exam"]
        some = random.Random(self.o.seed).sample(quick, SAMPLE)
        return [s for s in quick if s in some]

    def record(self):
        """Paths by key, of all scenarios."""
        found = {}
        for scenario in self.scenarios():
            # Twice: not all happens every time.
            for _ in range(2 if self.o.all else 1):
                r = Round(self.o, self.bases[scenario.base], scenario, self.number())
                self.running.append(r)
                _, result = self.await_one(self.running)
                if result["lie"] or result["failed"]:
                    raise SystemExit(f"{scenario.name} without any fault: {result}")
                self.outputs[scenario.name] = result["outputs"]
                paths = read_paths(r.note, scenario)
                shutil.rmtree(r.dir)
                new = 0
                for path in paths:
                    key = (path.key, scenario.commands)
                    new += key not in found
                    found.setdefault(key, path)
            sites = {p.site for p in paths}
            print(f"{scenario.name}: {len(paths)} paths of {len(sites)} calls, {new} new ({result['seconds']:.2f} s)")
        return list(found.values())

    def choose(self, paths):
        """(path, hit, variant): each path once; each call in each way; each call that comes again also later."""
        rng = random.Random(self.o.seed)
        sites = collections.defaultdict(list)
        for path in sorted(paths, key=lambda p: p.key):
            if not self.o.only or self.o.only in self.names.of(path):
                sites[path.site].append(path)
        first, then, last = [], [], []
        for same in sites.values():
            rng.shuffle(same)
            first.append((same[0], 0, 0))
            last += [(path, 0, 0) for path in same[1:]]
            then += [(rng.choice(same), 0, variant) for variant in range(1, same[0].variants)]
            often = [p for p in same if p.hits > 1]
            if often:
                path = rng.choice(often)
                then.append((path, rng.randrange(1, path.hits), rng.randrange(path.variants)))
        for some in (first, then, last):
            rng.shuffle(some)
        faults = first + then + last
        if not self.o.all:
            rng.shuffle(faults)
        faults.reverse()  # they are taken from the end
        return faults, len(sites)

    def tell(self, r, result):
        path, hit, variant = r.fault
        what = f"[{r.scenario.name}] {self.names.of(path)} (key {path.key:x}, hit {hit}, variant {variant}, {path.thread})"
        entry = {"what": what, "fired": result["fired"], "lie": result["lie"], "failed": result["failed"], "said": result["said"],
                 "seconds": result["seconds"], "log": result.get("log"), "stacks": result.get("stacks")}
        if self.o.results:
            with open(self.o.results, "a", encoding="utf8") as f:
                f.write(json.dumps(entry) + "\n")
        if result["lie"]:
            print(f"FAILED: {what}\n    {result['lie']}")
            for text in result["failed"][:4] + result["said"][:2]:
                print(f"    then: {text}")
            for line in result.get("stacks") or []:
                print(f"    {line}")
            sys.stdout.flush()

    def is_excluded(self, path):
        return EXCLUDED and EXCLUDED.get(f"{path.call} {self.names.function(path)}")

    def main(self):
        self.make_bases()
        paths = self.record()
        faults, sites = self.choose(paths)
        excluded = [f for f in faults if self.is_excluded(f[0])]
        faults = [f for f in faults if not self.is_excluded(f[0])]
        for name, why in EXCLUDED.items():
            print(f"not made to fail: {name}: {why}")
        print(f"{sites} calls, {len(paths)} paths, {len(faults)} faults, {len(excluded)} excluded, seed {self.o.seed}")
        end = time.monotonic() + self.o.seconds
        running = self.running
        while running or (faults and (self.o.all or time.monotonic() < end)):
            if faults and len(running) < self.o.jobs and (self.o.all or time.monotonic() < end):
                fault = faults.pop()
                scenario = fault[0].scenario
                running.append(Round(self.o, self.bases[scenario.base], scenario, self.number(), fault, self.outputs[scenario.name]))
                continue
            r, result = self.await_one(running)
            self.counts["failed" if result["lie"] else "passed"] += 1
            self.counts["fired" if result["fired"] else "quiet"] += 1
            if result["failed"] or result["said"]:
                self.counts["told"] += 1
            self.tell(r, result)
        c = self.counts
        print(f"{c['fired']} calls failed, {c['quiet']} were not reached this time; in {c['told']} rounds somebody was told")
        print(f"{c['passed']} passed, {c['failed']} failed, 0 skipped")
        return 1 if c["failed"] or not c["fired"] else 0


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--bin-dir", required=True)
    parser.add_argument("--dir", required=True, help="an empty directory of this run")
    parser.add_argument("--all", action="store_true")
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--seed", type=int, default=int(os.environ.get("VPOOL_SEED") or time.time()))
    parser.add_argument("--scenario", action="append")
    parser.add_argument("--only", help="paths whose description has this")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--results", help="a file for what each round said")
    parser.add_argument("--keep", action="store_true", help="the directories of rounds that failed")
    parser.add_argument("--debug", action="store_true", help="stop at a round that hangs")
    options = parser.parse_args()
    sys.stdout.reconfigure(line_buffering=True)
    options.program = f"{options.bin_dir}/tests/vpool_faulty"
    options.dir = os.path.realpath(options.dir)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(130))
    driver = Driver(options)
    try:
        sys.exit(driver.main())
    finally:
        for r in driver.running:
            r.end()


if __name__ == "__main__":
    main()
