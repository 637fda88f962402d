#!/usr/bin/env bash
# The mount outlives its daemon: what is asked of a worker that dies is done once, and answered. (Kills under load
# of data: torture.sh.)
# shellcheck disable=SC2012,SC2016,SC2119,SC2317 # tests are called by name; ls is what is tested
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"

kills=${VPOOL_KILLS:-7}
[[ ${VPOOL_LONG:-0} == 1 ]] && kills=${VPOOL_KILLS:-200}
disk=$work/disk
loads=()

fresh() {
	local fd
	cd "$work"
	for fd in 7 8; do eval "exec $fd>&-"; done
	for fd in "${loads[@]}"; do kill -KILL "$fd" 2>/dev/null || true; done
	if mountpoint -q "$mnt"; then "$vpool" umount "$mnt"; fi
	rm -rf "$pool"
	create_pool
	"$vpool" mount "$pool" "$mnt"
}

unmounted() {
	cd "$work"
	exits 0 "$vpool" umount "$mnt"
	not_mounted "$mnt"
	same "$(own_daemons)" ""
}

# A disk that can be stopped: what must reach it waits.
small_disk() {
	cd "$work"
	umount "$disk" 2>/dev/null || true
	truncate -s 256M "$work/disk.img"
	mkfs.ext4 -q -F "$work/disk.img"
	mkdir -p "$disk"
	mount -o loop "$work/disk.img" "$disk"
}

sees() { [[ $(dd if="$mnt/w.raw" bs=4096 skip=1 count=1 iflag=direct status=none | tr -d '\0' | head -c 1) == "$1" ]]; }
write_it() { head -c 4096 /dev/zero | tr '\0' "$1" | dd of="$mnt/w.raw" bs=4096 seek=1 conv=notrunc oflag="$2" status=none; }

a_write_that_was_seen_is_not_done_again_over_a_later_one() {
	local dead first r=0
	cd "$work"
	mountpoint -q "$mnt" && "$vpool" umount "$mnt"
	small_disk
	"$vpool" create "$disk/pool" >/dev/null
	"$vpool" mount "$disk/pool" "$mnt"
	dd if=/dev/zero of="$mnt/w.raw" bs=64K count=1 oflag=direct status=none
	sync "$mnt/w.raw"
	write_it 0 direct
	sync "$mnt/w.raw"
	dead=$(worker_of)
	fsfreeze -f "$disk"
	# The first is published, and then waits for the disk: nobody is told.
	write_it 1 direct,dsync &
	first=$!
	wait_for 20 sees 1 || r=1
	((r)) || write_it 2 direct || r=1
	((r)) || sees 2 || r=1
	((r)) || kill -0 "$first" || r=1
	kill -KILL "$dead"
	fsfreeze -u "$disk"
	((r == 0))
	wait_for 60 worker_is_not "$dead"
	wait "$first"
	sees 2
	exits 0 "$vpool" umount "$mnt"
	exits 0 "$vpool" check --data "$disk/pool"
	umount "$disk"
}

# Each call must do what it does when nobody dies, and answer so.
cat >"$work/names.py" <<'END'
import errno, os, signal, sys

top = sys.argv[1]
over = False


def stop(*_):
    global over
    over = True


signal.signal(signal.SIGTERM, stop)
signal.siginterrupt(signal.SIGTERM, False)


def fails(code, call, *args):
    try:
        call(*args)
    except OSError as e:
        if e.errno == code:
            return
        raise
    raise SystemExit(f"{call.__name__}{args} did not fail")


n = 0
os.mkdir(top)
try:
    while not over:
        n += 1
        f, g, h, d, s = (f"{top}/{c}{n}" for c in "fghds")
        fd = os.open(f, os.O_CREAT | os.O_EXCL | os.O_RDWR)
        os.write(fd, b"x" * 100)
        fails(errno.EEXIST, os.open, f, os.O_CREAT | os.O_EXCL | os.O_RDWR)
        os.mkdir(d)
        fails(errno.EEXIST, os.mkdir, d)
        os.rename(f, g)
        fails(errno.ENOENT, os.rename, f, g)
        os.link(g, h)
        fails(errno.EEXIST, os.link, g, h)
        os.symlink("to", s)
        os.setxattr(g, "user.a", b"1", os.XATTR_CREATE)
        fails(errno.EEXIST, os.setxattr, g, "user.a", b"2", os.XATTR_CREATE)
        os.removexattr(g, "user.a")
        fails(errno.ENODATA, os.removexattr, g, "user.a")
        os.chmod(g, 0o600 + n % 8)
        os.rename(g, f"{d}/g")
        os.unlink(h)
        fails(errno.ENOENT, os.unlink, h)
        st = os.fstat(fd)
        assert (st.st_nlink, st.st_size, st.st_mode & 0o777) == (1, 100, 0o600 + n % 8), st
        os.unlink(f"{d}/g")
        assert os.fstat(fd).st_nlink == 0 and os.pread(fd, 200, 0) == b"x" * 100
        os.close(fd)
        os.rmdir(d)
        fails(errno.ENOENT, os.rmdir, d)
        if n % 4:
            os.unlink(s)
    want = sorted(f"s{i}" for i in range(4, n + 1, 4))
    assert sorted(os.listdir(top)) == want, (os.listdir(top), want)
except OSError as e:
    raise SystemExit(f"round {n}: {e}")
print(n)
END

each_change_of_names_is_made_once_and_answered_as_the_first_time() {
	local i p rounds=0
	fresh
	loads=()
	for i in 1 2 3 4; do
		python3 "$work/names.py" "$mnt/names$i" >"$work/names-$i" 2>&1 &
		loads+=($!)
	done
	for ((i = 0; i < (kills + 1) / 2; i++)); do
		some_time
		kill_timed
	done
	for p in "${loads[@]}"; do kill -TERM "$p"; done
	for i in 1 2 3 4; do
		wait "${loads[i - 1]}" || {
			cat "$work/names-$i"
			return 1
		}
		rounds=$((rounds + $(cat "$work/names-$i")))
	done
	((rounds > kills * 4))
	unmounted
	exits 0 "$vpool" check --data "$pool"
}

reclaims() { json "$("$vpool" stats --json "$mnt")" 'd["counters"]["fs.reclaims"]'; }
reclaimed() { (($(reclaims) >= $1)); }

a_file_without_a_name_stays_as_long_as_it_is_open() {
	fresh
	random_file "$work/there" 4
	cp "$work/there" "$mnt/open.raw"
	cp "$work/there" "$mnt/later.raw"
	exec 7<>"$mnt/open.raw" 8<>"$mnt/later.raw"
	rm "$mnt/open.raw"
	kill_timed
	rm "$mnt/later.raw"
	same "$(hash_of /proc/self/fd/7)" "$(hash_of "$work/there")"
	kill_timed
	printf more >&7
	same "$(hash_of /proc/self/fd/8)" "$(hash_of "$work/there")"
	same "$(stat -L -c %h /proc/self/fd/7)" 0 "links"
	same "$(reclaims)" 0 "reclaimed"
	exec 7>&-
	wait_for 30 reclaimed 1
	exec 8>&-
	wait_for 30 reclaimed 2
	# One that a worker which died had been told to forget.
	unmounted
	exits 0 "$vpool" check "$pool"
}

another_program_takes_over_under_load() {
	local before
	fresh
	cp "$vpool" "$work/vpool-next"
	loads=()
	fio_load disk.raw --size=64M --rw=randwrite --bs=4k --iodepth=16 --ioengine=libaio --direct=1 \
		--verify_backlog=1500
	before=$(worker_of)
	exits 0 "$work/vpool-next" upgrade "$mnt"
	says "serves it now"
	same "$(status_of "$mnt" 'd["program"]')" "$work/vpool-next"
	worker_is_not "$before"
	before=$(worker_of)
	# One that does not start: the one before goes on.
	exits 0 python3 - "$pool/control.sock" <<-'END'
		import json, socket, sys
		s = socket.socket(socket.AF_UNIX)
		s.connect(sys.argv[1])
		s.sendall(json.dumps({"verb": "upgrade", "program": "/bin/false"}).encode() + b"\n")
		assert "worker_pid" in json.loads(s.makefile().readline())
	END
	wait_for 60 worker_is_not "$before"
	same "$(status_of "$mnt" 'd["program"]')" "$work/vpool-next"
	fio_ends_well "${loads[0]}" disk.raw
	unmounted
	exits 0 "$vpool" check --data "$pool"
}

a_worker_that_cannot_start_is_tried_again_without_haste() {
	local before reader ring
	fresh
	echo kept >"$mnt/file"
	before=$(status_of "$mnt" 'd["workers"]')
	# Without its ring the pool is not opened: what it has may be lost.
	ring=$(ring_of "$pool")
	mv "$ring" "$work/ring"
	kill -KILL "$(worker_of)"
	cat "$mnt/file" >"$work/read" &
	reader=$!
	sleep 3
	kill -0 "$reader"
	mv "$work/ring" "$ring"
	wait "$reader"
	same "$(cat "$work/read")" kept
	(($(status_of "$mnt" 'd["workers"]') - before < 14))
	# And is given up when somebody says so.
	mv "$pool/vpool.conf" "$work/conf"
	before=$(daemon_of "$mnt")
	kill -KILL "$(worker_of)"
	cd "$work"
	kill -TERM "$before"
	wait_for 30 is_gone "$before"
	not_mounted "$mnt"
	mv "$work/conf" "$pool/vpool.conf"
	"$vpool" mount "$pool" "$mnt"
	same "$(cat "$mnt/file")" kept
	unmounted
}

the_death_of_the_holder_is_the_end() {
	local holder
	fresh
	echo kept >"$mnt/file"
	holder=$(daemon_of "$mnt")
	cd "$work"
	kill -KILL "$holder"
	wait_for 30 is_gone "$holder"
	"$vpool" mount "$pool" "$mnt"
	same "$(cat "$mnt/file")" kept
	unmounted
}

cd "$work" || exit 1
if [[ -n $store ]] || ! command -v fsfreeze >/dev/null; then
	skip_it a_write_that_was_seen_is_not_done_again_over_a_later_one "a disk that can be stopped"
else
	test_it a_write_that_was_seen_is_not_done_again_over_a_later_one
fi
test_it each_change_of_names_is_made_once_and_answered_as_the_first_time
test_it a_file_without_a_name_stays_as_long_as_it_is_open
test_with fio another_program_takes_over_under_load
test_it a_worker_that_cannot_start_is_tried_again_without_haste
test_it the_death_of_the_holder_is_the_end
finish
