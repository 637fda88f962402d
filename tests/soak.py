#!/usr/bin/env python3
"""Mixed load on a mount for a long time: whether what it uses stays the same.

    tests/soak.py [--minutes=N] [--kill-every=SECONDS] [--bin-dir=DIR] [--keep=DIR]

fio writes and compares at random on a disk, past the cache and with syncs on a file of the pool; beside it disks are
snapshotted, by name and by a schedule, cloned, compared, rolled back, cut, grown, removed, brought back from the trash
and emptied from it, and small files come and go; everything is uploaded to `file:` and cleaned there. In the first half of
the time the worker is killed every minute, in the second it lives on, for what a process leaks is gone with it.

What is there at any time is bounded by the load, so all that is sampled must be flat. From each half its first third is
left out, in which the pool fills, a new worker's caches do, or the last kill's garbage is uploaded. Of the rest the
median of the later part is compared with that of the earlier one. It may be larger by what comes and goes (BOUNDS): less
than a leak of a few hundred bytes an operation in ten minutes, or of one in a hundred in hours. The run fails when one
grows more, when an operation fails, when data differs, or when `vpool check --data` finds anything afterwards.
"""

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time

MIB = 1 << 20
# What a median may grow by: a part of it and so much. Name: (part, bytes or number, unit, why)
BOUNDS = {
    "worker_rss": (0.08, 12 * MIB, "glibc keeps what was freed in arenas of its threads; a buffer of 1 MiB for each of some threads"),
    "holder_rss": (0, 128 << 10, "it allocates nothing; pages of its program that it runs for the first time"),
    "worker_fds": (0, 12, "one for each SCO file that is open, which come and go"),
    "holder_fds": (0, 0, "nothing but the mount's"),
    "cache": (0.15, 48 * MIB, "between two rounds of cleaning garbage gathers: 1.43 of what lives is the aim"),
    "objects": (0.15, 48 * MIB, "the same on the store, and what two roots still name"),
    "meta": (0.30, 24 * MIB, "RocksDB has rows twice while it compacts"),
    "meta_files": (0, 24, "tables between two compactions"),
}
PARTS = 3


class Soak:
    def __init__(self, arguments):
        self.a = arguments
        self.vpool = f"{arguments.bin_dir}/vpool"
        self.work = tempfile.mkdtemp(prefix="vpool-soak.")
        self.pool, self.mnt = f"{self.work}/pool", f"{self.work}/mnt"
        self.over = threading.Event()
        self.failures, self.counts = [], {}
        self.samples = []
        self.fio = []
        self.lock = threading.Lock()
        self.commands = threading.Lock()  # nobody repeats a question of vpool's to the next worker

    # --- helpers ---

    def run(self, *arguments):
        with self.commands:
            done = subprocess.run([self.vpool, *arguments], capture_output=True, text=True, timeout=300, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"vpool {' '.join(arguments)}: exit {done.returncode}: {done.stdout}{done.stderr}")
        return done.stdout

    def status(self):
        return json.loads(self.run("status", "--json", self.mnt))

    def count(self, what):
        with self.lock:
            self.counts[what] = self.counts.get(what, 0) + 1

    def fail(self, text):
        with self.lock:
            self.failures.append(text)
        self.over.set()

    def loop(self, name, step):
        """A thread that makes steps until the end."""

        def main():
            n = 0
            try:
                while not self.over.is_set():
                    step(n)
                    n += 1
                    self.over.wait(0.05)
            except (OSError, RuntimeError, AssertionError, subprocess.TimeoutExpired) as e:
                self.fail(f"{name}, step {n}: {type(e).__name__}: {e}")

        thread = threading.Thread(target=main)
        thread.start()
        return thread

    # --- load ---

    def start_fio(self, name, *options):
        out = open(f"{self.work}/fio-{name}", "wb")
        command = ["fio", f"--name={name}", f"--filename={self.mnt}/{name}", "--time_based", "--runtime=1000000"]
        command += ["--verify=crc32c", "--verify_fatal=1", "--do_verify=1", "--randrepeat=0", *options]
        command += ["--verify_state_save=0"]
        self.fio.append((name, subprocess.Popen(command, stdout=out, stderr=out)))
        out.close()

    def end_fio(self):
        for name, process in self.fio:
            process.send_signal(signal.SIGINT)
            code = process.wait()
            with open(f"{self.work}/fio-{name}", encoding="utf-8", errors="replace") as f:
                text = f.read()
            if code not in (0, 128) or "verify:" in text or "error=" in text:
                self.fail(f"fio of {name}: exit {code}: {text[-400:]}")

    def fill(self, path, seed, size, at=0):
        """Bytes that the seed makes, for a part of a file; its hash."""
        data = random.Random(seed).randbytes(size)
        fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            os.pwrite(fd, data, at)
            if seed % 3 == 0:
                os.fsync(fd)
        finally:
            os.close(fd)
        return hashlib.sha256(data).hexdigest()

    def is_there(self, path, digest, size, at=0):
        fd = os.open(path, os.O_RDONLY)
        try:
            got = hashlib.sha256(os.pread(fd, size, at)).hexdigest()
        finally:
            os.close(fd)
        assert got == digest, f"{path}: other bytes than were written"

    def life_of_a_disk(self, n):
        """Everything that can be done to one, ending with nothing of it left."""
        disk, clone = f"{self.mnt}/d{n}.raw", f"{self.mnt}/c{n}.raw"
        first = self.fill(disk, n, 4 * MIB)
        os.truncate(disk, 64 * MIB)
        self.run("snapshot", "schedule", "--every=hourly", "--keep=all:1", disk)
        self.run("snapshot", "create", "--name=one", disk)
        second = self.fill(disk, n + 1_000_000, 2 * MIB, at=MIB)
        self.run("snapshot", "create", "--name=two", disk)
        self.run("clone", f"{disk}@one", clone)
        self.is_there(clone, first, 4 * MIB)
        self.is_there(disk, second, 2 * MIB, at=MIB)
        self.fill(clone, n + 2_000_000, 2 * MIB)
        os.truncate(disk, 3 * MIB + 777)
        os.truncate(disk, 64 * MIB)
        self.run("snapshot", "rollback", "--force", disk, "one")
        self.is_there(disk, first, 4 * MIB)
        os.unlink(clone)
        os.unlink(disk)  # to the trash: it has snapshots
        if n % 2:
            self.run("trash", "restore", self.mnt, f"/d{n}.raw")
            self.is_there(disk, first, 4 * MIB)
            os.unlink(disk)
        self.run("trash", "empty", "--all", self.mnt)
        self.count("lives of a disk")

    def small_files(self, n):
        directory = f"{self.mnt}/dir{n % 7}"
        os.makedirs(directory, exist_ok=True)
        digests = [self.fill(f"{directory}/f{i}", n * 100 + i, 3000 + 700 * i) for i in range(20)]
        os.rename(f"{directory}/f0", f"{directory}/g")
        for i in range(1, 20):
            self.is_there(f"{directory}/f{i}", digests[i], 3000 + 700 * i)
        shutil.rmtree(directory)
        self.count("directories of 20 files")

    def kept_snapshots(self, n):
        """Of the disk that fio writes, the youngest five."""
        disk = f"{self.mnt}/disk.raw"
        self.run("snapshot", "create", f"--name=n{n}", disk)
        if n >= 5:
            self.run("snapshot", "delete", disk, f"n{n - 5}")
        self.count("snapshots of the disk that is written")
        self.over.wait(2)

    # --- what is used ---

    @staticmethod
    def used_below(directory):
        """Bytes of blocks, and files; a file of two names once."""
        seen, blocks = set(), 0
        for top, _, names in os.walk(directory):
            for name in names:
                try:
                    st = os.lstat(f"{top}/{name}")
                except FileNotFoundError:
                    continue
                if st.st_ino not in seen:
                    seen.add(st.st_ino)
                    blocks += st.st_blocks
        return blocks * 512, len(seen)

    @staticmethod
    def rss(pid):
        with open(f"/proc/{pid}/status", encoding="ascii") as f:
            return next(int(line.split()[1]) << 10 for line in f if line.startswith("VmRSS:"))

    def sample(self, start):
        s = self.status()
        meta, files = self.used_below(f"{self.pool}/meta")
        self.samples.append(
            {
                "at": time.monotonic() - start,
                "worker_rss": self.rss(s["worker_pid"]),
                "holder_rss": self.rss(s["pid"]),
                "worker_fds": len(os.listdir(f"/proc/{s['worker_pid']}/fd")),
                "holder_fds": len(os.listdir(f"/proc/{s['pid']}/fd")),
                "cache": self.used_below(f"{self.pool}/cache")[0],
                "objects": self.used_below(f"{self.pool}/objects")[0],
                "meta": meta,
                "meta_files": files,
            }
        )

    def kill_worker(self):
        dead = self.status()["worker_pid"]
        with self.commands:
            os.kill(dead, signal.SIGKILL)
            os.statvfs(self.mnt)
            while subprocess.run([self.vpool, "status", self.mnt], capture_output=True, check=False).returncode:
                time.sleep(0.1)
        self.count("kills")

    @staticmethod
    def show(name, value):
        return f"{value:10.0f}" if name.endswith(("fds", "files")) else f"{value / MIB:10.2f}"

    def judge(self, what, samples):
        """Of half of the run."""
        if len(samples) < 3 * PARTS:
            self.fail(f"{what}: only {len(samples)} samples")
            return
        third = len(samples) // PARTS
        print(f"\n{what}: medians of its middle and last third, MiB or numbers; what it may grow by")
        for name, (part, fixed, why) in BOUNDS.items():
            middle = statistics.median(s[name] for s in samples[third:-third])
            last = statistics.median(s[name] for s in samples[-third:])
            bound = part * middle + fixed
            bad = last - middle > bound
            print(f"  {name:12}{self.show(name, middle)}{self.show(name, last)}{self.show(name, bound)}  {why}")
            if bad:
                self.fail(f"{what}: {name} grew from{self.show(name, middle)} to{self.show(name, last)}")

    # --- the run ---

    def load(self):
        with open(f"{self.mnt}/disk.raw", "wb") as f:
            f.truncate(64 * MIB)  # else fio would remove it first
        threads = [
            self.loop("disks", self.life_of_a_disk),
            self.loop("files", self.small_files),
            self.loop("snapshots", self.kept_snapshots),
        ]
        self.start_fio("disk.raw", "--size=64M", "--rw=randwrite", "--bs=4k", "--iodepth=16", "--ioengine=libaio",
                       "--direct=1", "--verify_backlog=1500", "--rate_iops=2000")
        self.start_fio("file", "--size=16M", "--rw=randwrite", "--bs=3k", "--ioengine=psync", "--fsync=40",
                       "--verify_backlog=300", "--rate_iops=500")
        return threads

    def watch(self):
        start = time.monotonic()
        seconds = self.a.minutes * 60
        every = max(2, seconds / 240)
        next_kill, next_line, lines = self.a.kill_every, 0, 0
        while (now := time.monotonic() - start) < seconds and not self.over.wait(every):
            if now >= next_kill and now < seconds / 2:
                self.kill_worker()
                next_kill = now + self.a.kill_every
            self.sample(start)
            if now >= next_line:
                if lines % 20 == 0:
                    print(f"{'second':>8}" + "".join(f"{name:>12}" for name in BOUNDS))
                lines, next_line = lines + 1, next_line + seconds / 40
                values = "".join("  " + self.show(name, self.samples[-1][name]) for name in BOUNDS)
                print(f"{now:8.0f}{values}", flush=True)
        return seconds

    def main(self):
        os.mkdir(self.mnt)
        self.run("create", self.pool)
        with open(f"{self.pool}/vpool.conf", "w", encoding="ascii") as f:
            f.write("[pool]\nsco_size = 4M\ntrash = all\n[cache]\nmetadata_cache = 32M\ncheckpoint_interval = 5s\n")
            f.write("[backend]\ncopy = copy\nupload_interval = 10s\ngrace_time = 0ns\n")
        self.run("mount", self.pool, self.mnt)
        try:
            threads = self.load()
            seconds = self.watch()
            self.over.set()
            for thread in threads:
                thread.join()
            self.end_fio()
            self.judge("with kills", [s for s in self.samples if s["at"] < seconds / 2])
            self.judge("one worker", [s for s in self.samples if s["at"] >= seconds / 2])
        finally:
            self.over.set()
            for _, process in self.fio:
                process.kill()
            self.run("umount", self.mnt)
        try:
            self.run("check", "--data", self.pool)
        except RuntimeError as e:
            self.fail(str(e))
        print("\n" + ", ".join(f"{n} {what}" for what, n in sorted(self.counts.items())))
        for text in self.failures:
            print(f"FAILED: {text}")
        if not self.failures or not self.a.keep:
            shutil.rmtree(self.work)
        else:
            shutil.move(self.work, self.a.keep)
        print(f"{int(not self.failures)} passed, {len(self.failures)} failed, 0 skipped")
        return int(bool(self.failures))


def main():
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    parser = argparse.ArgumentParser(usage="tests/soak.py [--minutes=N] [--kill-every=SECONDS] [--bin-dir=DIR] [--keep=DIR]")
    parser.add_argument("--minutes", type=float, default=60, help="how long (60)")
    parser.add_argument("--kill-every", type=float, default=60, help="seconds between two kills (60)")
    parser.add_argument("--bin-dir", default=os.environ.get("VPOOL_BIN_DIR", f"{root}/build/gcc"), help="with vpool in it")
    parser.add_argument("--keep", help="where to move the pool when something failed")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("soak: ended by a signal"))  # through its finally
    return Soak(parser.parse_args()).main()


if __name__ == "__main__":
    sys.exit(main())
