#!/usr/bin/env bash
# A machine is lost: pool directory and ring are gone, `vpool restore` makes the pool from its store.
# After `vpool sync` every file is back bit for bit; without, each is at one point of its history, and
# that point is not before what had been written when the root before the newest was committed.
# shellcheck disable=SC2016,SC2119,SC2317 # tests are called by name
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"

rounds=10
[[ ${VPOOL_LONG:-0} == 1 ]] && rounds=50
[[ -n $store ]] && rounds=6 # of many seconds each
rounds=${VPOOL_RESTORES:-$rounds}
objects=$work/objects
url=file://$objects
[[ -z $store ]] || {
	new_place
	url=$place
}
files=(disk1.raw disk2.raw notes more)
writer=0

# A daemon that is in trouble must not keep the suite for ever.
bounded() { timeout --foreground 60 "$@"; }

write_conf() {
	printf '[backend]\nurl = %s\nupload_interval = 1s\ngrace_time = 0ns\n[cache]\nring_size = 16M\n' \
		"$url" >"$pool/vpool.conf"
	[[ -n $store ]] || sed -i '/^url/a copy = copy' "$pool/vpool.conf"
}

make_pool() {
	bounded "$vpool" create "$pool" --sco-size 1M --backend "$url" &&
		write_conf && bounded "$vpool" mount "$pool" "$mnt"
}

# The records of a file: number n is at slot n mod SLOTS, so what is there says how far its writes came.
cat >"$work/records.py" <<-'END'
	import os, struct, sys, time, zlib
	SLOTS, BYTES = 200, 4096

	def record(name, n):
	    head = struct.pack("<Q32s", n, name.encode())
	    body = head + bytes((n * 7 + i) & 255 for i in range(BYTES - len(head) - 4))
	    return body + struct.pack("<I", zlib.crc32(body))

	# What a file holds: the newest record, if all others are those that belong to it. Missing: -1.
	def newest(path):
	    name, found = os.path.basename(path), {}
	    if not os.path.exists(path):
	        return -1
	    with open(path, "rb") as f:
	        data = f.read()
	    for slot in range(len(data) // BYTES):
	        part = data[slot * BYTES:(slot + 1) * BYTES]
	        if part.count(0) == BYTES:
	            continue
	        n = struct.unpack_from("<Q", part)[0]
	        assert part == record(name, n) and n % SLOTS == slot, "%s: slot %d is no record" % (name, slot)
	        found[slot] = n
	    last = max(found.values(), default=-1)
	    for slot in range(SLOTS):
	        want = last - (last - slot) % SLOTS if last >= slot else None
	        assert found.get(slot) == want, "%s: slot %d has %s, want %s, newest %d" % (
	            name, slot, found.get(slot), want, last)
	    return last

	# Write on, one record after the other, each synced; "name number time" of each that is acknowledged.
	def write(log, paths):
	    fds = [os.open(p, os.O_RDWR | os.O_CREAT, 0o640) for p in paths]
	    at = [newest(p) + 1 for p in paths]
	    with open(log, "w", buffering=1) as out:
	        while True:
	            for i, p in enumerate(paths):
	                data = record(os.path.basename(p), at[i])
	                try:
	                    assert os.pwrite(fds[i], data, at[i] % SLOTS * BYTES) == BYTES
	                    os.fsync(fds[i])
	                except OSError:
	                    return
	                out.write("%s %d %d\n" % (os.path.basename(p), at[i], time.time_ns()))
	                at[i] += 1

	# Each file is at one point of its history: not before what was acknowledged at a time, not behind what
	# was ever begun.
	def verify(log, since_ns, paths):
	    before, acked = {}, {}
	    for line in open(log):
	        name, n, when = line.split()
	        acked[name] = int(n)
	        if int(when) < since_ns:
	            before[name] = int(n)
	    for p in paths:
	        name, last = os.path.basename(p), newest(p)
	        assert last >= before.get(name, -1), "%s: %d is there, %d was older than the root before" % (
	            name, last, before[name])
	        assert last <= acked.get(name, -1) + 1 or name not in acked, "%s: %d was never written" % (name, last)
	        print(name, last, "of", acked.get(name))

	if sys.argv[1] == "write":
	    write(sys.argv[2], sys.argv[3:])
	elif sys.argv[1] == "verify":
	    verify(sys.argv[2], int(sys.argv[3]), sys.argv[4:])
	else:
	    for p in sys.argv[2:]:
	        print(os.path.basename(p), newest(p))
END
records() { PYTHONDONTWRITEBYTECODE=1 python3 "$work/records.py" "$@"; }

# The roots there, the oldest first: name, and the time at which it was put, in ns.
roots() {
	if [[ -z $store ]]; then
		find "$objects/root" -type f -printf '%f %T@\n' 2>/dev/null | sort | tr -d . | sed 's/0$//'
	else
		objects_there root/
	fi
}
newest_root() { roots | tail -n 1; }
in_mount() { printf "$mnt/%s\n" "${files[@]}"; }

start_writer() {
	local paths
	mapfile -t paths < <(in_mount)
	PYTHONDONTWRITEBYTECODE=1 python3 "$work/records.py" write "$work/acked" "${paths[@]}" &
	writer=$!
}

root_changed() { [[ $(newest_root) != "$1" ]]; }
has_acked() { [[ -s $work/acked ]]; }

# SIGKILL, then nothing of the pool is left but its store.
lose_machine() {
	local dead=$daemon
	kill -KILL "$dead"
	wait_for 20 is_gone "$dead"
	if ((writer)); then
		wait "$writer"
		writer=0
	fi
	umount -l "$mnt"
	daemon=0
	remove_rings "$pool"
	rm -rf "$pool"
}

restore_and_mount() {
	bounded "$vpool" restore "$pool" --backend "$url" --sco-size 1M >"$work/restored"
	write_conf
	bounded "$vpool" mount "$pool" "$mnt"
	daemon=$(daemon_of "$mnt")
}

# Names, modes, owners, attributes, bytes.
portrait() {
	(cd "$mnt" && find . -printf '%P %M %U %G %n %s %T@ %l\n' | sort &&
		getfattr -R -d -m - . 2>/dev/null | sort &&
		find . -type f -print0 | sort -z | xargs -0 sha256sum)
}

furnish() {
	mkdir -p "$mnt/dir/below"
	random_file "$mnt/dir/some.img" 3
	random_file "$mnt/dir/below/file" 1
	chmod 751 "$mnt/dir/below"
	setfattr -n user.colour -v "green $1" "$mnt/dir/some.img"
	ln -sf ../notes "$mnt/dir/link"
	ln -f "$mnt/dir/below/file" "$mnt/dir/second name"
	truncate -s 2500000 "$mnt/dir/some.img"
	mv "$mnt/dir/some.img" "$mnt/dir/some.$((RANDOM % 2)).txt"
}

what_was_synced_is_back_bit_for_bit() {
	cd /
	furnish "$round"
	bounded "$vpool" sync "$mnt" >/dev/null
	portrait >"$work/before"
	lose_machine
	restore_and_mount
	portrait >"$work/after"
	diff "$work/before" "$work/after"
}

each_file_is_at_one_point_of_its_history() {
	local newest paths since
	cd /
	start_writer
	wait_for 30 has_acked
	newest=$(newest_root)
	wait_for 30 root_changed "$newest"
	newest=$(newest_root)
	wait_for 30 root_changed "$newest"
	sleep "0.$((RANDOM % 5))$((RANDOM % 10))"
	lose_machine
	# The newest root shows all that was there when the one before it was committed.
	since=$(roots | tail -n 2 | head -n 1 | cut -d ' ' -f 2)
	echo "killed $((($(date +%s%N) - since) / 1000000)) ms after the root before the newest"
	restore_and_mount
	mapfile -t paths < <(in_mount)
	records verify "$work/acked" "$since" "${paths[@]}"
	cat "$work/restored"
}

# The proof itself must be able to fail.
another_history_would_be_noticed() {
	mkdir "$work/proof"
	printf '%s\n' "import sys; sys.argv = ['', '-']" "exec(open('$work/records.py').read())" \
		"f = open('$work/proof/x', 'wb')" \
		"[(f.seek(n % SLOTS * BYTES), f.write(record('x', n))) for n in range(300)]" | python3 -
	same "$(records newest "$work/proof/x")" "x 299"
	cp "$work/proof/x" "$work/proof/keep"
	printf '%s\n' "import sys; sys.argv = ['', '-']" "exec(open('$work/records.py').read())" \
		"f = open('$work/proof/x', 'r+b')" "f.seek(50 * BYTES)" "f.write(record('x', 50))" | python3 -
	refused "slot 50 has 50, want 250" records newest "$work/proof/x"
	rm -r "$work/proof"
}

errors_say_what_to_do() {
	exits 2 "$vpool" restore "$pool.x"
	says "--backend is missing"
	one_line
	exits 4 "$vpool" restore "$pool.x" --backend "file://$work/nowhere"
	says "'$work/nowhere'"
	says "vpool backend check"
	one_line
	[[ ! -e $work/nowhere && ! -e $pool.x ]]
	mkdir "$work/empty"
	exits 4 "$vpool" restore "$pool.x" --backend "file://$work/empty"
	says "holds no pool"
	one_line
	exits 1 "$vpool" restore "$pool" --backend "$url"
	says "it holds a pool already (take another directory)"
	one_line
	exits 1 "$vpool" restore "$work" --backend "$url"
	says "not empty (take another directory)"
	one_line
	exits 4 "$vpool" restore "$work/no/where" --backend "$url"
	says "make its parent directory first"
	[[ ! -e $pool.x ]]
	same "$(json "$("$vpool" restore "$pool.x" --backend "file://$work/empty" --json || true)" 'd["code"]')" 4
}

a_restore_that_was_cut_off_is_not_mounted_and_begins_anew() {
	mkdir "$pool.y"
	: >"$pool.y/restore.unfinished"
	: >"$pool.y/vpool.conf"
	exits 6 "$vpool" mount "$pool.y" "$work/mnt.y"
	says "'vpool restore' it again"
	one_line
	said=$("$vpool" restore "$pool.y" --backend "$url" --json)
	same "$(json "$said" 'd["roots_skipped"]')" 0
	[[ $(json "$said" 'd["objects"]') -gt 0 && ! -e $pool.y/restore.unfinished ]]
	"$vpool" check --data "$pool.y"
	remove_rings "$pool.y"
	rm -r "$pool.y"
}

make_pool || {
	echo "0 passed, 1 failed, 0 skipped"
	exit 1
}
daemon=$(daemon_of "$mnt")
test_it another_history_would_be_noticed
for ((round = 1; round <= rounds; round++)); do
	if ((round % 3 == 0)); then
		what=what_was_synced_is_back_bit_for_bit
	else
		what=each_file_is_at_one_point_of_its_history
	fi
	# In this shell: it changes the daemon.
	start_ms=$(now_ms)
	if (set -e; "$what") >"$work/out" 2>&1; then
		passed=$((passed + 1))
		echo "ok: round $round: ${what//_/ } ($(($(now_ms) - start_ms)) ms): $(grep -h ms "$work/out")"
	else
		failed=$((failed + 1))
		echo "FAILED: round $round: ${what//_/ }"
		tail -n 20 "$work/out" | sed 's/^/    /'
		finish
	fi
	daemon=$(daemon_of "$mnt")
done
test_it errors_say_what_to_do
cd /
"$vpool" umount "$mnt" && daemon=0
the_pool_is_sound() {
	"$vpool" check --data "$pool"
	walk_pool
}
test_it the_pool_is_sound
test_it a_restore_that_was_cut_off_is_not_mounted_and_begins_anew
finish
