"""
single - the two figures of tests/bench/run that have no peer: memory of the daemon with a large map,
and the time of a mount.
"""

import json
import os
import statistics
import time

import measure as m
import peers as p

RSS_EXTRA_BYTES = 150 * m.MIB  # beside ring and metadata cache
MOUNT_WANTED_S = 1.0
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


RUN = {"rss": run_rss, "mount": run_mount}


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
    else:
        times = sorted(x["seconds"])
        print(
            f"mount of a clean pool with {x['files']} files: median {x['median_s']:.3f} s"
            f" ({times[0]:.3f}..{times[-1]:.3f}), wanted {x['wanted_s']:g}: {verdict}"
        )
