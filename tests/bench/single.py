"""
single - the figures of tests/bench/run that have no peer: memory of the daemon with a large map, the
time of a mount, what an idle daemon costs, and whether long random overwriting goes on evenly.
"""

import json
import os
import statistics
import time

import measure as m
import peers as p

RSS_EXTRA_BYTES = 150 * m.MIB  # beside ring and metadata cache
MOUNT_WANTED_S = 1.0
IDLE_S = 60.0
IDLE_CPU_SHARE = 0.001  # of one processor: 0 %
IDLE_BYTES = 200 * m.MIB
STEADY_LEAST = 0.5  # the slowest second of the median one
STEADY_DEVICE = 0.35  # bytes of users of those that the disk writes
DIRECTORIES = 100
FILE_BYTES = 4096


def settings(pool):
    text = m.call([pool.program("vpool"), "config", "show", "--json", pool.pool(p.WRITE)])
    keys = json.loads(text)
    return {x["key"]: x["value"] for x in keys["keys"]}


def pool_of(options, work, size):
    pool = p.Vpool(work, options.bin, {p.WRITE: size})
    m.call([pool.program("vpool"), "create", pool.pool(p.WRITE)])
    return pool


def run_rss(options, work):
    """A disk that is mapped at random all over, mounted, read and written all over."""
    pool = pool_of(options, work, options.map_size)
    disk = pool.path(p.WRITE)
    try:
        pool.serve(p.WRITE)
        with open(disk, "xb") as file:
            file.truncate(options.map_size)
        number = os.stat(disk).st_ino  # of the object, too
    finally:
        pool.stop()
    m.say("building the map")
    m.call(
        [pool.program("tool_mapbuild"), "--dir", pool.pool(p.WRITE), "--object", str(number)]
        + ["--size", str(options.map_size), "--pattern", "random"]
    )
    m.drop_caches()
    known = settings(pool)
    limit = known["metadata_cache"] + known["ring_size"] + RSS_EXTRA_BYTES
    out = {"map_bytes": options.map_size, "limit_bytes": limit, "steps": []}

    def note(step, ops):
        out["steps"].append(
            {
                "step": step,
                "ops": ops,
                "rss_bytes": m.status_bytes(pool.pid, "VmRSS"),
                "anonymous_bytes": m.status_bytes(pool.pid, "RssAnon"),
                "peak_bytes": m.status_bytes(pool.pid, "VmHWM"),
            }
        )

    try:
        pool.serve(p.WRITE)
        note("mounted", 0)
        for step, rw in (("read", "randread"), ("read and written", "randrw"), ("again", "randrw")):
            job = m.fio(
                disk,
                rw=rw,
                bs="4k",
                iodepth=32,
                size=options.map_size,
                time_based=None,
                runtime=m.fio_time(options.seconds),
                randrepeat=0,
                norandommap=None,
                end_fsync=1,
                **m.RANDOM_DATA,
            )
            note(step, job["read"]["total_ios"] + job["write"]["total_ios"])
    finally:
        ended = pool.stop()
    if not ended:
        raise m.Failed("the daemon did not end as it should")
    out["peak_bytes"] = max(x["peak_bytes"] for x in out["steps"])
    out["reached"] = out["peak_bytes"] <= limit
    return out


def run_mount(options, work):
    """From the command to the first answer, page cache empty."""
    pool = pool_of(options, work, m.GIB)
    try:
        pool.serve(p.WRITE)
        for i in range(options.files):
            directory = f"{pool.mountpoint}/{i % DIRECTORIES:02}"
            if i < DIRECTORIES:
                os.mkdir(directory)
            with open(f"{directory}/{i:05}", "wb") as file:
                file.write(os.urandom(FILE_BYTES))
        last = f"{directory}/{i:05}"
        m.call([pool.program("vpool"), "sync", pool.mountpoint])
    finally:
        ended = pool.stop()
    if not ended:
        raise m.Failed("the daemon did not end as it should")
    times = []
    for _ in range(options.runs):
        m.drop_caches()
        if options.wait:
            m.wait_quiet()
        try:
            start = time.monotonic()
            text = m.call(
                [pool.program("vpool"), "mount", "--json", pool.pool(p.WRITE), pool.mountpoint]
            )
            if os.stat(last).st_size != FILE_BYTES:
                raise m.Failed(f"'{last}' has another size after a mount")
            times.append(time.monotonic() - start)
            pid = json.loads(text)["pid"]
        finally:
            m.call([pool.program("vpool"), "umount", pool.mountpoint])
        m.wait_until(lambda: not os.path.exists(f"/proc/{pid}"), "the end of the daemon")
    median = statistics.median(times)
    return {
        "files": options.files,
        "seconds": times,
        "median_s": median,
        "wanted_s": MOUNT_WANTED_S,
        "reached": median < MOUNT_WANTED_S,
    }


def run_idle(options, work):
    """A pool of many disks, each written a little, that nobody uses."""
    pool = pool_of(options, work, m.GIB)
    try:
        pool.serve(p.WRITE)
        for i in range(options.disks):
            with open(f"{pool.mountpoint}/{i:05}.raw", "xb") as file:
                file.truncate(m.GIB)
                file.write(os.urandom(FILE_BYTES))
        m.call([pool.program("vpool"), "sync", pool.mountpoint])
        time.sleep(options.seconds)  # what has still to be done
        cpu = m.cpu_seconds(pool.pid)
        time.sleep(IDLE_S)
        share = (m.cpu_seconds(pool.pid) - cpu) / IDLE_S
        rss = m.status_bytes(pool.pid, "VmRSS")
    finally:
        ended = pool.stop()
    if not ended:
        raise m.Failed("the daemon did not end as it should")
    return {
        "disks": options.disks,
        "cpu_share": share,
        "rss_bytes": rss,
        "reached": share <= IDLE_CPU_SHARE and rss < IDLE_BYTES,
    }


def per_second(log):
    """Of a log of fio with a line a second and job: rates, without the first and the last one."""
    rates = {}
    with open(log, encoding="ascii") as file:
        for line in file:
            ms, rate = (int(x) for x in line.split(",")[:2])
            rates[ms // 1000] = rates.get(ms // 1000, 0) + rate
    rates = [rates[second] for second in sorted(rates)][1:-1]
    if not rates:
        raise m.Failed("too short for a figure of each second: more --seconds")
    return rates


def run_steady(options, work):
    """A disk overwritten at random, cleaned and uploaded to a directory of the same disk meanwhile."""
    pool = p.Vpool(work, options.bin, {p.WRITE: options.size})
    pool.before(p.WRITE)
    log = f"{work}/steady"
    try:
        pool.serve(p.WRITE)
        written = m.written_bytes(options.dir)
        job = m.fio(
            pool.path(p.WRITE),
            rw="randwrite",
            bs="4k",
            iodepth=32,
            size=options.size,
            time_based=None,
            runtime=m.fio_time(options.seconds),
            randrepeat=0,
            norandommap=None,
            write_iops_log=log,
            log_avg_msec=1000,
            **m.RANDOM_DATA,
        )
        written = m.written_bytes(options.dir) - written
        rss = m.status_bytes(pool.pid, "VmHWM")
    finally:
        ended = pool.stop()
    if not ended:
        raise m.Failed("the daemon did not end as it should")
    rates = per_second(f"{log}_iops.1.log")
    median = statistics.median(rates)
    share = job["write"]["io_bytes"] / max(1, written)
    slow = sum(rate < STEADY_LEAST * median for rate in rates)
    return {
        "seconds": rates,
        "median": median,
        "slow_seconds": slow,
        "user_share": share,
        "peak_bytes": rss,
        "reached": slow == 0 and share >= STEADY_DEVICE,
    }


RUN = {"rss": run_rss, "mount": run_mount, "idle": run_idle, "steady": run_steady}


def print_result(what, x):
    verdict = "reached" if x["reached"] else "MISSED"
    if what == "rss":
        for step in x["steps"]:
            print(
                f"  {step['step']:18}{step['ops']:>10} operations"
                f"{step['rss_bytes'] / m.MIB:>8.0f} MiB, at most {step['peak_bytes'] / m.MIB:.0f}"
            )
        print(
            f"daemon with a random map of {x['map_bytes'] / m.GIB:g} GiB:"
            f" at most {x['peak_bytes'] / m.MIB:.0f} MiB,"
            f" wanted {x['limit_bytes'] / m.MIB:.0f}: {verdict}"
        )
    elif what == "idle":
        print(
            f"idle daemon, {x['disks']} disks: {x['cpu_share']:.2%} of a processor,"
            f" {x['rss_bytes'] / m.MIB:.0f} MiB,"
            f" wanted {IDLE_CPU_SHARE:.1%} and {IDLE_BYTES / m.MIB:.0f}: {verdict}"
        )
    elif what == "steady":
        print(
            f"random overwriting for {len(x['seconds'])} s: {x['median']:.0f} writes a second,"
            f" {min(x['seconds'])}..{max(x['seconds'])}, {x['slow_seconds']} seconds under half of"
            f" the median; {x['user_share']:.2f} of what the disk wrote was the user's, wanted"
            f" {STEADY_DEVICE:.2f}; {x['peak_bytes'] / m.MIB:.0f} MiB at most: {verdict}"
        )
    else:
        times = sorted(x["seconds"])
        print(
            f"mount of a clean pool with {x['files']} files: median {x['median_s']:.3f} s"
            f" ({times[0]:.3f}..{times[-1]:.3f}), wanted {x['wanted_s']:g}: {verdict}"
        )
