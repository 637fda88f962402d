#!/usr/bin/env bash
# Room runs out, the backend fails: writers slow down and then wait, reads go on, one line of the log and
# `vpool status` say why, and all goes on by itself when the cause is gone. Small filesystems play the
# disks.
# shellcheck disable=SC2016,SC2119,SC2317 # tests are called by name
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"

disk=$work/disk   # a filesystem of its own for the pool or its cache
store=$work/store # one for the backend
mkdir "$disk" "$store"
writer=0

# A daemon that is in trouble must not keep the suite for ever.
bounded() { timeout --foreground 60 "$@"; }

small_ext4() {
	image=$(mktemp "$work/image.XXXXXX")
	truncate -s "$2" "$image"
	mkfs.ext4 -q -F -m 0 -b 4096 "$image" >/dev/null && mount -o loop "$image" "$1"
}

# start_writer NAME MIB SEED: random data that a seed tells again, 256 KiB a write, each one timed.
start_writer() {
	python3 - "$mnt/$1" "$2" "$3" "$work/$1.times" <<-'END' &
		import os, random, sys, time
		path, mib, seed, times = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
		rng = random.Random(seed)
		fd = os.open(path, os.O_WRONLY | os.O_CREAT, 0o644)
		with open(times, "w", buffering=1) as log:
		    for i in range(mib * 4):
		        start = time.monotonic()
		        assert os.write(fd, rng.randbytes(256 << 10)) == 256 << 10
		        log.write("%d %.6f\n" % (i, time.monotonic() - start))
		os.fsync(fd)
	END
	writer=$!
}

# What start_writer wrote, read again.
is_what_was_written() {
	python3 - "$mnt/$1" "$2" "$3" <<-'END'
		import random, sys
		rng = random.Random(int(sys.argv[3]))
		with open(sys.argv[1], "rb") as f:
		    for i in range(int(sys.argv[2]) * 4):
		        assert f.read(256 << 10) == rng.randbytes(256 << 10), "block %d" % i
		    assert f.read(1) == b""
	END
}

written() { wc -l 2>/dev/null <"$work/$1.times"; }

# The writer runs, and nothing that it does ends: for a second.
is_held_up() {
	local before
	before=$(written "$1")
	sleep 1
	kill -0 "$writer" && (($(written "$1") == before && before > 0))
}

writer_ends() {
	wait_for "$1" is_gone "$writer" || {
		echo "still waiting after $(written "$2") writes: $("$vpool" status "$mnt")"
		return 1
	}
	wait "$writer"
}

state_is() { [[ $(status_of "$mnt" 'd["state"]') == "$1" ]]; }

log_lines() { grep -cE "$1" "$pool/$log_name"; }

log_name=vpool.log

fresh_pool() {
	pool=$1
	shift
	rm -rf "$pool"
	"$vpool" create "$pool" --sco-size 1M "$@" >/dev/null
}

configure() { printf '%s\n' "$@" >>"$pool/vpool.conf"; }

reads_work() {
	echo 3 >/proc/sys/vm/drop_caches
	same "$(bounded dd if="$mnt/there.raw" bs=1M iflag=direct status=none | sha256sum)" \
		"$(sha256sum <"$work/there")" "what was there before"
	bounded ls -l "$mnt" >/dev/null
	same "$(bounded cat "$mnt/small")" text
}

put_something_there() {
	random_file "$work/there" 4
	cp "$work/there" "$mnt/there.raw"
	echo text >"$mnt/small"
	sync -f "$mnt"
}

a_full_pool_directory_holds_writers_up_until_there_is_room() {
	cd "$work"
	small_ext4 "$disk" 192M
	fresh_pool "$disk/pool"
	fallocate -l 96M "$disk/others"
	"$vpool" mount "$pool" "$mnt"
	put_something_there
	start_writer full.raw 100 1
	wait_for 30 state_is blocked
	wait_for 30 is_held_up full.raw
	reads_work
	exits 0 "$vpool" status "$mnt"
	says "full"
	same "$(log_lines 'no room, writes wait')" 1 "lines of the log"
	# Names and deletions work on the reserve.
	bounded rm "$mnt/small"
	bounded mkdir "$mnt/dir"
	echo text >"$mnt/dir/small" &
	rm "$disk/others"
	writer_ends 60 full.raw
	wait_for 30 state_is ok
	wait
	same "$(log_lines 'room again, writes go on')" 1 "lines of the log"
	same "$(log_lines ' error ')" 0 "errors in the log"
	same "$(cat "$mnt/dir/small")" text
	is_what_was_written full.raw 100 1
	"$vpool" umount "$mnt"
	"$vpool" check --data "$pool"
	"$vpool" mount "$pool" "$mnt"
	is_what_was_written full.raw 100 1
	cmp "$work/there" "$mnt/there.raw"
	"$vpool" umount "$mnt"
	umount "$disk"
}

deleting_disks_makes_room_in_a_full_pool() {
	cd "$work"
	small_ext4 "$disk" 192M
	fresh_pool "$disk/pool"
	"$vpool" mount "$pool" "$mnt"
	put_something_there
	start_writer old.raw 60 2
	writer_ends 60 old.raw
	start_writer new.raw 100 3
	wait_for 30 state_is blocked
	wait_for 30 is_held_up new.raw
	reads_work
	bounded rm "$mnt/old.raw"
	writer_ends 60 new.raw
	is_what_was_written new.raw 100 3
	wait_for 30 state_is ok
	reads_work
	"$vpool" umount "$mnt"
	"$vpool" check --data "$pool"
	umount "$disk"
}

a_full_cache_directory_holds_writers_up_until_there_is_room() {
	cd "$work"
	fresh_pool "$work/pool" --cache "$work/flash:64M" --backend "file://$store"
	"$vpool" mount "$pool" "$mnt"
	put_something_there
	start_writer one.raw 30 4
	writer_ends 30 one.raw
	start_writer two.raw 40 5
	wait_for 30 state_is blocked
	wait_for 30 is_held_up two.raw
	reads_work
	exits 0 "$vpool" status "$mnt"
	says "full"
	bounded rm "$mnt/one.raw"
	writer_ends 60 two.raw
	is_what_was_written two.raw 40 5
	wait_for 30 state_is ok
	"$vpool" umount "$mnt"
	"$vpool" check --data "$pool"
	rm -rf "$pool" flash "${store:?}"/*
}

a_backend_that_cannot_be_written_holds_writers_up_at_the_limit() {
	cd "$work"
	mount -t tmpfs -o size=256m tmpfs "$store"
	mkdir "$store/pool"
	fresh_pool "$work/pool" --backend "file://$store/pool"
	configure "[cache]" "dirty_limit = 24M" "[backend]" "upload_interval = 1s"
	"$vpool" mount "$pool" "$mnt"
	put_something_there
	"$vpool" sync "$mnt"
	mount -o remount,ro "$store"
	start_writer wait.raw 48 6
	wait_for 40 state_is blocked
	wait_for 30 is_held_up wait.raw
	reads_work
	exits 0 "$vpool" status "$mnt"
	says "backend"
	same "$(status_of "$mnt" 'd["backend"]["state"]')" failing
	same "$(log_lines 'backend: upload failed')" 1 "lines of the log"
	# They slowed down before they stopped: the last of what fits took longer than the first half.
	python3 - "$work/wait.raw.times" <<-'END'
		import sys
		t = [float(line.split()[1]) for line in open(sys.argv[1])]
		half, last = len(t) // 2, len(t) // 8
		first, second = sorted(t[:half])[half // 2], sorted(t[-last:])[last // 2]
		print("%d writes of 256 KiB, median %.1f ms, then %.1f ms" % (len(t), first * 1e3, second * 1e3))
		assert second > 2 * first
	END
	mount -o remount,rw "$store"
	writer_ends 60 wait.raw
	is_what_was_written wait.raw 48 6
	same "$(log_lines 'backend: answers again')" 1 "lines of the log"
	exits 0 "$vpool" sync "$mnt"
	wait_for 30 state_is ok
	same "$(status_of "$mnt" 'd["backend"]["state"]')" ok
	"$vpool" umount "$mnt"
	"$vpool" check --data "$pool"
	umount "$store"
	rm -rf "$pool"
}

a_backend_that_is_full_holds_writers_up_until_it_has_room() {
	cd "$work"
	mount -t tmpfs -o size=24m tmpfs "$store"
	mkdir "$store/pool"
	fresh_pool "$work/pool" --backend "file://$store/pool"
	configure "[cache]" "dirty_limit = 24M" "[backend]" "upload_interval = 1s"
	"$vpool" mount "$pool" "$mnt"
	put_something_there
	start_writer wait.raw 64 7
	wait_for 40 state_is blocked
	wait_for 30 is_held_up wait.raw
	reads_work
	exits 0 "$vpool" status "$mnt"
	says "backend"
	mount -o remount,size=256m "$store"
	writer_ends 60 wait.raw
	is_what_was_written wait.raw 64 7
	exits 0 "$vpool" sync "$mnt"
	wait_for 30 state_is ok
	"$vpool" umount "$mnt"
	"$vpool" check --data "$pool"
	umount "$store"
	rm -rf "$pool"
}

# A kill in the middle of it all: what was acknowledged is there, and the pool opens on a full disk.
a_kill_while_the_pool_directory_is_full_loses_nothing() {
	cd "$work"
	small_ext4 "$disk" 192M
	fresh_pool "$disk/pool"
	fallocate -l 96M "$disk/others"
	"$vpool" mount "$pool" "$mnt"
	put_something_there
	start_writer full.raw 100 8
	wait_for 30 state_is blocked
	wait_for 30 is_held_up full.raw
	kill -KILL "$(daemon_of "$mnt")"
	wait "$writer" 2>/dev/null || true
	bounded "$vpool" mount "$pool" "$mnt"
	reads_work
	python3 - "$mnt/full.raw" "$(written full.raw)" <<-'END'
		import random, sys
		rng = random.Random(8)
		with open(sys.argv[1], "rb") as f:
		    for i in range(int(sys.argv[2])):
		        assert f.read(256 << 10) == rng.randbytes(256 << 10), "block %d" % i
	END
	rm "$disk/others"
	start_writer full.raw 100 8
	writer_ends 60 full.raw
	is_what_was_written full.raw 100 8
	"$vpool" umount "$mnt"
	"$vpool" check --data "$pool"
	umount "$disk"
}

# start_dd NAME SOURCE: until the pool is full, and then on.
start_dd() { # not through a shell of its own: what is killed is dd
	dd if="$work/$2" of="$mnt/$1" bs=301K status=none 2>/dev/null &
	writer=$!
}

# The process waits in a write, and nothing of it gets done: for a second.
waits_in() {
	local before
	before=$(stat -c %s "$mnt/$1")
	sleep 1
	kill -0 "$writer" && ((before > 0 && $(stat -c %s "$mnt/$1") == before))
}

dies_with() {
	local r=0
	wait_for 20 is_gone "$writer" || {
		echo "still there: $(cat "/proc/$writer/wchan" "/proc/$writer/status")"
		return 1
	}
	wait "$writer" || r=$?
	same "$r" "$1" "exit code"
}

writes_wait() { same "$(status_of "$mnt" 'd["waiting_requests"]')" "$1" "writes that wait"; }

# An unmount that says what blocks it, and what helps.
is_refused_for_the_writes() {
	exits 5 "$vpool" umount "$mnt" &&
		says "writes in it wait (the cache directory is full" &&
		says "'kill $(daemon_of "$mnt")' ends the mount"
}

counter_of() { json "$("$vpool" stats --json "$mnt")" "d['counters']['$1']"; }

# Who waits for room can be killed, and leaves a prefix; no other signal ends a write.
a_process_that_waits_for_room_can_be_killed() {
	local name
	cd "$work"
	small_ext4 "$disk" 192M
	fresh_pool "$disk/pool"
	fallocate -l 96M "$disk/others"
	"$vpool" mount "$pool" "$mnt"
	put_something_there
	random_file "$work/source" 150
	start_dd one.raw source
	wait_for 30 state_is blocked
	wait_for 30 waits_in one.raw
	kill -KILL "$writer"
	dies_with 137
	wait_for 30 state_is blocked
	start_dd two.raw source # the first byte of it waits
	wait_for 30 test -e "$mnt/two.raw"
	wait_for 30 writes_wait 1
	wait_for 30 is_refused_for_the_writes
	kill -TERM "$writer"
	dies_with 143
	start_dd three.bin source # through the page cache
	wait_for 30 writes_wait 1
	for _ in 1 2 3; do
		kill -USR1 "$writer" # dd would tell how far it is, and go on
		sleep 0.3
	done
	kill -0 "$writer"
	kill -TERM "$writer"
	dies_with 143
	wait_for 30 state_is blocked
	same "$(counter_of fuse.interrupted_writes)" 3 "writes that were given up"
	same "$(log_lines ' error ')" 0 "errors in the log"
	reads_work
	rm "$disk/others"
	wait_for 30 state_is ok
	start_writer after.raw 40 11
	writer_ends 60 after.raw
	is_what_was_written after.raw 40 11
	writes_wait 0
	"$vpool" umount "$mnt"
	"$vpool" check --data "$pool"
	"$vpool" mount "$pool" "$mnt"
	for name in one.raw two.raw three.bin; do
		echo "$name has $(stat -c %s "$mnt/$name") bytes"
		cmp -n "$(stat -c %s "$mnt/$name")" "$mnt/$name" "$work/source"
	done
	is_what_was_written after.raw 40 11
	"$vpool" umount "$mnt"
	umount "$disk"
}

# A stop does not wait for room: whose writes were not answered is told so, the rest is there.
a_stop_while_writers_wait_ends_and_loses_nothing() {
	local start_ms pid
	cd "$work"
	small_ext4 "$disk" 192M
	fresh_pool "$disk/pool"
	fallocate -l 96M "$disk/others"
	"$vpool" mount "$pool" "$mnt"
	put_something_there
	start_writer full.raw 100 10
	wait_for 30 state_is blocked
	wait_for 30 is_held_up full.raw
	pid=$(daemon_of "$mnt")
	start_ms=$(now_ms)
	kill -TERM "$pid"
	wait_for 60 is_gone "$pid"
	ended_soon "$start_ms"
	not_mounted "$mnt"
	if wait "$writer"; then return 1; fi
	rm "$disk/others"
	"$vpool" mount "$pool" "$mnt"
	reads_work
	python3 - "$mnt/full.raw" "$(written full.raw)" <<-'END'
		import random, sys
		rng = random.Random(10)
		with open(sys.argv[1], "rb") as f:
		    for i in range(int(sys.argv[2])):
		        assert f.read(256 << 10) == rng.randbytes(256 << 10), "block %d" % i
	END
	"$vpool" umount "$mnt"
	"$vpool" check --data "$pool"
	umount "$disk"
}

# Far less than what a stop took that waited for its writers (24 s), far more than it takes (5 s).
ended_soon() {
	echo "ended after $(($(now_ms) - $1)) ms: $(tail -n 4 "$pool/$log_name")"
	same "$(log_lines 'stopping while requests wait for room')" 1 "lines of the log"
	same "$(log_lines 'never acknowledged are given up')" 0 "requests without an answer"
	(($(now_ms) - $1 < 18000))
}

# Many writers at once, and a cut of a file that one of them holds.
a_stop_while_the_backend_is_dead_ends_and_says_what_is_dirty() {
	local start_ms pid writers i
	cd "$work"
	mount -t tmpfs -o size=256m tmpfs "$store"
	mkdir "$store/pool"
	fresh_pool "$work/pool" --backend "file://$store/pool"
	configure "[cache]" "dirty_limit = 24M" "[backend]" "upload_interval = 1s" "[fuse]" "parked_max = 4"
	"$vpool" mount "$pool" "$mnt"
	put_something_there
	"$vpool" sync "$mnt"
	mount -o remount,ro "$store"
	writers=()
	for i in 1 2 3 4 5 6; do
		start_writer "wait$i.raw" 48 "1$i"
		writers+=("$writer")
	done
	wait_for 40 state_is blocked
	wait_for 40 is_held_up wait6.raw
	truncate -s 1000 "$mnt/wait1.raw" &
	writers+=($!)
	pid=$(daemon_of "$mnt")
	start_ms=$(now_ms)
	kill -TERM "$pid"
	wait_for 60 is_gone "$pid"
	ended_soon "$start_ms"
	not_mounted "$mnt"
	for i in "${writers[@]}"; do
		wait_for 30 is_gone "$i"
	done
	log_lines 'not on the backend waits for the next mount: dirty_bytes=[1-9]' >/dev/null
	mount -o remount,rw "$store"
	"$vpool" mount "$pool" "$mnt"
	reads_work
	for i in 2 3 4 5 6; do
		python3 - "$mnt/wait$i.raw" "$(written "wait$i.raw")" "1$i" <<-'END'
			import random, sys
			rng = random.Random(int(sys.argv[3]))
			with open(sys.argv[1], "rb") as f:
			    for i in range(int(sys.argv[2])):
			        assert f.read(256 << 10) == rng.randbytes(256 << 10), "block %d" % i
		END
	done
	exits 0 "$vpool" sync "$mnt"
	"$vpool" umount "$mnt"
	"$vpool" check --data "$pool"
	umount "$store"
	rm -rf "$pool"
}

# Others take the last byte, which no reserve of ours prevents.
a_disk_that_others_fill_to_the_brim_is_survived() {
	cd "$work"
	small_ext4 "$disk" 192M
	fresh_pool "$disk/pool"
	"$vpool" mount "$pool" "$mnt"
	put_something_there
	start_writer brim.raw 60 9
	wait_for 10 test -s "$work/brim.raw.times"
	dd if=/dev/zero of="$disk/others" bs=64K status=none 2>/dev/null || true
	wait_for 30 state_is blocked
	reads_work
	dd if=/dev/zero of="$disk/others2" bs=4K status=none 2>/dev/null || true
	sleep 2
	reads_work
	rm "$disk/others" "$disk/others2"
	writer_ends 60 brim.raw
	is_what_was_written brim.raw 60 9
	wait_for 30 state_is ok
	dd if=/dev/zero of="$disk/others" bs=64K status=none 2>/dev/null || true
	kill -KILL "$(daemon_of "$mnt")"
	# It opens, or says why not in one line; nothing is lost either way.
	if said=$(bounded "$vpool" mount "$pool" "$mnt" 2>&1); then
		reads_work
	else
		echo "not mounted: $said"
		one_line
		says "No space"
	fi
	rm "$disk/others"
	ls "$mnt/there.raw" >/dev/null 2>&1 || bounded "$vpool" mount "$pool" "$mnt"
	reads_work
	is_what_was_written brim.raw 60 9
	"$vpool" umount "$mnt"
	"$vpool" check --data "$pool"
	echo "$said"
	umount "$disk"
}

for t in a_full_pool_directory_holds_writers_up_until_there_is_room \
	deleting_disks_makes_room_in_a_full_pool \
	a_full_cache_directory_holds_writers_up_until_there_is_room \
	a_backend_that_cannot_be_written_holds_writers_up_at_the_limit \
	a_backend_that_is_full_holds_writers_up_until_it_has_room \
	a_kill_while_the_pool_directory_is_full_loses_nothing \
	a_process_that_waits_for_room_can_be_killed \
	a_stop_while_writers_wait_ends_and_loses_nothing \
	a_stop_while_the_backend_is_dead_ends_and_says_what_is_dirty \
	a_disk_that_others_fill_to_the_brim_is_survived; do
	[[ -n ${1:-} && $t != *"$1"* ]] && continue
	test_with python3 "$t"
	# What a test that failed leaves behind must not be the next one's trouble.
	tidy
done
finish
