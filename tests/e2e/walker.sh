#!/usr/bin/env bash
# Nothing leaks: a walker that shares no code with the engine (tests/walker) compares what is reachable
# in a closed pool with what is there, and finds what was planted.
# shellcheck disable=SC2016,SC2119,SC2317 # tests are called by name
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"

walker=$root/tests/walker
poolrow=$(find_program tool_poolrow)
export PYTHONDONTWRITEBYTECODE=1

walk() { python3 "$walker/walk.py" "$pool"; }
plant() { python3 "$walker/plant.py" "$pool" "$1"; }

# clean [COUNT]...: the walk finds nothing wrong, and of each of these at least one
clean() {
	local count
	exits 0 walk
	says "; 0 problems"
	for count in "$@"; do
		[[ $said =~ \ $count\ [1-9] ]] || {
			echo "nothing to see of '$count': $said"
			return 1
		}
	done
	echo "$said"
}

# finds TEXT [COMMAND...]: by the walk, or by another command
finds() {
	local text=$1
	shift
	(($#)) || set -- walk
	exits 1 "$@"
	says "$text"
}

set_key() { sed -i "s/^# $1 = .*/$1 = $2/" "$pool/vpool.conf"; }

# fresh [SCO_SIZE]
fresh() {
	cd "$work"
	rm -rf "$pool"
	"$vpool" create "$pool" --sco-size "${1:-1M}" >/dev/null
	# Nothing goes to the backend but when asked to; what is there without a name goes at once.
	set_key upload_interval 1h
	set_key grace_time 0ns
	"$vpool" mount "$pool" "$mnt"
}

closed() {
	cd "$work"
	"$vpool" umount "$mnt"
}

# write FILE MIB_FROM MIB
write() { dd if=/dev/urandom of="$mnt/$1" bs=1M seek="$2" count="$3" conv=notrunc status=none; }

# In no part between two roots a SCO comes and dies, see the last test.
what_is_reachable_is_what_is_there() {
	local n
	fresh
	for n in 1 2 3 4; do
		write "disk$n.raw" 0 6
		write "file$n.txt" 0 3
	done
	mkdir -p "$mnt/dir/deep"
	ln "$mnt/disk1.raw" "$mnt/dir/deep/link.raw"
	ln -s nowhere "$mnt/dir/symlink"
	mkfifo "$mnt/dir/fifo"
	"$probe" setxattr "$mnt/disk1.raw" user.colour red any
	"$vpool" sync "$mnt" >/dev/null
	# Overwritten, and so much of it that it is cleaned; holes, ends, files that go.
	for n in 1 2 3; do
		write "disk$n.raw" 1 4
		write "file$n.txt" 1 1
	done
	fallocate -p -o 300000 -l 500000 "$mnt/disk1.raw"
	truncate -s 1234567 "$mnt/disk2.raw"
	truncate -s 777 "$mnt/file2.txt"
	write disk2.raw 3 2
	write disk1.raw 6 1
	write file2.txt 1 1
	rm "$mnt/disk4.raw" "$mnt/file4.txt"
	"$vpool" sync "$mnt" >/dev/null
	# Classes change, there and back, with data before, between and after.
	mv "$mnt/disk3.raw" "$mnt/disk3.txt"
	mv "$mnt/file3.txt" "$mnt/file3.raw"
	write disk3.txt 2 1
	write file3.raw 1 1
	truncate -s 2500000 "$mnt/file3.raw"
	write file3.raw 3 1
	mv "$mnt/file3.raw" "$mnt/file3.txt"
	write file3.txt 0 1
	mv "$mnt/dir/deep/link.raw" "$mnt/dir/link"
	mv "$mnt/disk2.raw" "$mnt/disk1.raw"
	"$vpool" sync "$mnt" >/dev/null
	write disk1.raw 2 1
	closed
	clean inodes mapped files linked condemned compared
	says "behind 0"
}

# What is not on the backend is in the log.
a_pool_that_did_not_upload_is_walked_as_well() {
	fresh
	write disk.raw 0 3
	"$vpool" sync "$mnt" >/dev/null
	write disk.raw 1 4
	write file.txt 0 1
	cd "$work"
	"$vpool" umount --no-upload "$mnt"
	clean behind compared
	"$vpool" mount "$pool" "$mnt"
	closed
	clean compared
	says "behind 0"
}

a_backend_that_has_copies_is_read() {
	fresh
	closed
	set_key copy copy
	"$vpool" mount "$pool" "$mnt"
	write disk.raw 0 3
	closed
	clean copies
	says "linked 0"
}

under_way() {
	local name
	for name in "$@"; do
		(($(stat -c %s "$work/$name.log") > 64 * 50)) || return 1
	done
}

snapshots_and_clones_are_walked() {
	fresh
	write disk.raw 0 4
	"$vpool" snapshot create --name one "$mnt/disk.raw"
	write disk.raw 1 2
	"$vpool" clone "$mnt/disk.raw@one" "$mnt/clone.raw"
	"$vpool" clone "$mnt/disk.raw" "$mnt/now.raw"
	write clone.raw 2 1
	truncate -s 1M "$mnt/now.raw"
	"$vpool" sync "$mnt" >/dev/null
	"$vpool" snapshot create --name two "$mnt/disk.raw" "$mnt/clone.raw"
	write disk.raw 3 3
	"$vpool" snapshot rollback "$mnt/disk.raw" two
	write disk.raw 0 1
	"$vpool" snapshot delete "$mnt/clone.raw" two
	closed
	clean snapshots compared
	says "snapshots 2"
	finds "is not a frozen one of it" plant snapshot
	finds "4097 bytes, its layer has" plant size
	finds "it has a template, and its row does not say so" plant template
}

# Copies of what many snapshots share; made by the time that the pool is mounted anew and closed.
resolved_pages_are_walked() {
	local i
	fresh
	write disk.raw 0 2
	for i in {1..10}; do
		"$vpool" snapshot create --name "s$i" "$mnt/disk.raw"
		dd if=/dev/urandom of="$mnt/disk.raw" bs=4k seek="$i" count=1 conv=notrunc status=none
	done
	"$vpool" sync "$mnt" >/dev/null
	has_resolved() { "$vpool" stats "$mnt" 2>&1 | grep -Eq 'resolved_pages[^1-9]*[1-9]'; }
	wait_for 30 has_resolved
	closed
	clean snapshots resolved
	finds "names other places than the rows" plant resolved
}

a_pool_whose_daemon_was_killed_under_load_is_clean_after_a_mount() {
	local name pid loads=()
	# So large, and so few writes, that no SCO dies of them.
	fresh 16M
	write disk0.raw 0 1
	"$vpool" sync "$mnt" >/dev/null
	pid=$(daemon_of "$mnt")
	for name in disk1.raw disk2.raw file1 file2; do
		"$probe" writer "$mnt/$name" "$work/$name.log" 128M 1 direct 250 &
		loads+=($!)
	done
	mkdir "$mnt/made"
	"$probe" maker "$mnt/made" "$work/made.log" &
	loads+=($!)
	exec 9>"$mnt/open.raw"
	rm "$mnt/open.raw"
	head -c 100000 /dev/urandom >&9
	wait_for 60 under_way disk1.raw disk2.raw file1 file2
	kill -KILL "$pid"
	wait_for 20 is_gone "$pid"
	exec 9>&-
	wait "${loads[@]}" || true
	"$vpool" mount "$pool" "$mnt"
	for name in disk1.raw disk2.raw file1 file2; do
		"$probe" verify "$mnt/$name" "$work/$name.log" 128M
	done
	closed
	clean inodes mapped linked compared
	says "behind 0"
	says "unswept 0"
}

# --- planted ------------------------------------------------------------------------------------

one_sco() { find "$pool/cache/sco" -type f -size +900k | sort | head -n 1; }

# flip FILE OFFSET: one bit
flip() {
	python3 -c 'import sys
with open(sys.argv[1], "r+b") as f:
	f.seek(int(sys.argv[2]))
	byte = f.read(1)[0]
	f.seek(int(sys.argv[2]))
	f.write(bytes([byte ^ 16]))' "$1" "$2"
}

files_that_are_too_many_missing_or_damaged_are_found() {
	local sco name slot object
	fresh
	write disk.raw 0 4
	write file.txt 0 2
	"$vpool" sync "$mnt" >/dev/null
	write disk.raw 1 1
	# Clusters that stand alone: their checksums are in the map.
	for slot in 1 3 5; do
		dd if=/dev/urandom of="$mnt/small.raw" bs=4096 seek="$slot" count=1 conv=notrunc oflag=direct status=none
	done
	closed
	clean condemned
	sco=$(one_sco)
	name=$(basename "$sco")
	cp "$sco" "${sco%/*}/${name:0:8}-000000fff-00000000"
	finds "'${name:0:8}-000000fff-00000000' is named by no row"
	rm "${sco%/*}/${name:0:8}-000000fff-00000000"
	# Its object is there, so nothing is lost; but one that was a link does not go from flash.
	mv "$sco" "$work/sco"
	finds "one file or two: the SCO's row says otherwise"
	object=$(find "$pool/objects" -samefile "$work/sco")
	mv "$object" "$work/object"
	finds "${object#"$pool/objects/"}"
	mv "$work/object" "$object"
	mv "$work/sco" "$sco"
	flip "$sco" $((200 * 4096 + 77))
	finds "'$name': slot 200: the cluster's checksum is wrong"
	flip "$sco" $((200 * 4096 + 77))
	# A batch's block, the slot table, the footer.
	flip "$sco" $((4096 + 100))
	finds "'$name': batch: bad checksum"
	flip "$sco" $((4096 + 100))
	flip "$sco" $(($(stat -c %s "$sco") - 4000))
	finds "'$name': footer: bad checksum"
	flip "$sco" $(($(stat -c %s "$sco") - 4000))
	# Of the backend.
	: >"$pool/objects/ns/00000000000000ff-0000000000000001"
	finds "'ns/00000000000000ff-0000000000000001' is named by nothing"
	rm "$pool/objects/ns/00000000000000ff-0000000000000001"
	for name in manifest map sco; do
		sco=$(find "$pool/objects" -path "*/$name/*" | sort | tail -n 1)
		mv "$sco" "$work/object"
		finds "${sco#"$pool/objects/"}"
		mv "$work/object" "$sco"
	done
	sco=$(find "$pool/objects" -path "*/map/*" | sort | tail -n 1)
	flip "$sco" 20
	finds "not as named"
	flip "$sco" 20
	: >"$pool/stray"
	finds "'stray' is nobody's"
	rm "$pool/stray"
	"$poolrow" "$pool" 2
	finds "row 'P': version 2"
	"$poolrow" "$pool" 1 0
	clean
	# Rows whose checksums are right.
	finds "live, maps name" plant live
	finds "elsewhere in the newest root" plant place
	finds "different checksums" plant checksum
	finds "by place and by name differ" plant name
	finds "no such inode" plant inode
	finds "its object is missing" plant object
	finds "the layer has no row" plant layer
	finds "row does not know of it" plant uploaded
	finds "is named by nothing" plant condemned
}

# What a daemon that was killed left waits for the first roots of another mount, but not for more.
leftovers_of_an_older_epoch_are_found_once_they_should_be_gone() {
	local old=(ns/00000000000000ff-0000000000000001 root/0000000000000001-00000000000000ff) name
	fresh
	write disk.raw 0 2
	closed
	clean
	says "unswept 0"
	# It brings one root or, if it is ended before, none.
	"$vpool" mount "$pool" "$mnt"
	"$vpool" umount --no-upload "$mnt"
	for name in "${old[@]}"; do
		: >"$pool/objects/$name"
	done
	clean
	says "unswept 2"
	# Not of the running epoch, and not what is no object.
	: >"$pool/objects/ns/00000000000000ff-0000000000000002"
	finds "'ns/00000000000000ff-0000000000000002' is named by nothing"
	rm "$pool/objects/ns/00000000000000ff-0000000000000002"
	: >"$pool/objects/ns/stray-0000000000000001"
	finds "'ns/stray-0000000000000001' is named by nothing"
	rm "$pool/objects/ns/stray-0000000000000001"
	: >"$pool/objects/root/0000000000000002-00000000000000ff"
	finds "the newest root is 'root/0000000000000002-00000000000000ff'"
	rm "$pool/objects/root/0000000000000002-00000000000000ff"
	"$vpool" mount "$pool" "$mnt"
	two_roots
	closed
	clean
	says "unswept 0"
	for name in "${old[@]}"; do
		[[ ! -e $pool/objects/$name ]]
		: >"$pool/objects/$name"
		finds "'$name' is named by nothing"
		rm "$pool/objects/$name"
	done
}

# Of a store that takes links small objects do not travel together unless it is told.
small_objects_in_packs_are_walked() {
	local n pack missed=
	fresh
	closed
	set_key packs always
	"$vpool" mount "$pool" "$mnt"
	for n in {1..30}; do
		write "disk$n.raw" 0 0
		printf 'disk %s' "$n" >"$mnt/disk$n.raw"
	done
	write large.raw 0 3
	"$vpool" sync "$mnt" >/dev/null
	for n in {1..20}; do
		rm "$mnt/disk$n.raw"
	done
	for n in 1 2 3 4; do
		printf 'again %s' "$n" >"$mnt/disk30.raw"
		"$vpool" sync "$mnt" >/dev/null
	done
	closed
	clean packed compared
	says "behind 0"
	(($(find "$pool/objects" -path '*/sco/*' | wc -l) <= 5))
	exits 0 "$vpool" check --data "$pool"
	# A condemned one is missed by nobody.
	for pack in "$pool"/objects/pack/*; do
		mv "$pack" "$work/pack"
		[[ $(walk) == *"'pack/${pack##*/}' is missing"* ]] && missed=1
		mv "$work/pack" "$pack"
	done
	[[ -n $missed ]]
	clean packed
	"$vpool" mount "$pool" "$mnt"
	[[ $(<"$mnt/disk25.raw") == "disk 25" && $(<"$mnt/disk30.raw") == "again 4" ]]
	closed
}

# A SCO that is made and dies between two roots takes its entries with it, and
# what the root names does not tell of them.
a_truncation_alone_is_in_the_root() {
	fresh 16M
	write disk.raw 0 4
	"$vpool" sync "$mnt" >/dev/null
	truncate -s 1M "$mnt/disk.raw"
	closed
	clean
}

tests=(what_is_reachable_is_what_is_there
	a_pool_that_did_not_upload_is_walked_as_well
	a_backend_that_has_copies_is_read
	snapshots_and_clones_are_walked
	resolved_pages_are_walked
	a_pool_whose_daemon_was_killed_under_load_is_clean_after_a_mount
	files_that_are_too_many_missing_or_damaged_are_found
	leftovers_of_an_older_epoch_are_found_once_they_should_be_gone
	small_objects_in_packs_are_walked
	a_truncation_alone_is_in_the_root)
for t in "${tests[@]}"; do
	[[ -n ${1:-} && $t != *"$1"* ]] && continue
	test_with python3 "$t"
	tidy
	rm -rf "$pool"
done
finish
