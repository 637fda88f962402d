#!/usr/bin/env bash
# What a mount refuses or reports, with the cure: rings, caches and pools that are not what they should
# be, bytes that changed. One clear line, the documented exit code, nothing damaged.
# shellcheck disable=SC2016,SC2119,SC2317 # tests are called by name
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"

poolrow=$(find_program tool_poolrow)
other=$work/other
mkdir "$other"

fresh() {
	cd "$work"
	rm -rf "$pool"
	"$vpool" create "$pool" "$@" >/dev/null
	"$vpool" mount "$pool" "$mnt"
	random_file "$work/there" 4
	cp "$work/there" "$mnt/there.raw"
	sync "$mnt/there.raw"
}

killed() {
	local pid
	pid=$(daemon_of "$mnt")
	kill -KILL "$pid"
	wait_for 20 is_gone "$pid"
	umount "$mnt"
}

# The pool opens again and has what it had.
is_whole() {
	"$vpool" mount "$pool" "$mnt"
	cmp "$work/there" "$mnt/there.raw"
	"$vpool" umount "$mnt"
	exits 0 "$vpool" check --data "$pool"
}

a_missing_ring_is_told_and_given_up_only_when_asked() {
	local ring
	fresh
	killed
	ring=$(ring_of "$pool")
	[[ $ring == /dev/shm/* ]]
	mv "$ring" "$work/ring"
	exits 4 "$vpool" mount "$pool" "$mnt"
	one_line
	says "$ring"
	says "is missing"
	says "vpool check --repair"
	exits 4 "$vpool" check "$pool"
	not_mounted "$mnt"
	# Put back, all goes on.
	mv "$work/ring" "$ring"
	"$vpool" mount "$pool" "$mnt"
	cmp "$work/there" "$mnt/there.raw"
	[[ ! -e $ring ]]
	killed
	# Given up, what was synced is there.
	rm "$(ring_of "$pool")"
	exits 0 "$vpool" check --repair "$pool"
	is_whole
}

a_foreign_ring_is_told() {
	local ring
	fresh
	killed
	ring=$(ring_of "$pool")
	cp "$ring" "$work/ring"
	# Not a ring at all; a shorter one; another pool's; another owner's.
	head -c "$(stat -c %s "$ring")" /dev/urandom | dd of="$ring" bs=1M conv=notrunc status=none
	exits 6 "$vpool" mount "$pool" "$mnt"
	one_line
	truncate -s 8M "$ring"
	exits 6 "$vpool" mount "$pool" "$mnt"
	says "wrong length"
	cp "$work/ring" "$ring"
	chown 1234 "$ring"
	exits 1 "$vpool" mount "$pool" "$mnt"
	says "another owner"
	rm -rf "$work/second"
	"$vpool" create "$work/second" >/dev/null
	"$vpool" mount "$work/second" "$other"
	cp "$(ring_of "$work/second")" "$ring"
	chown 0 "$ring"
	exits 6 "$vpool" mount "$pool" "$mnt"
	says "another pool"
	"$vpool" umount "$other"
	ln -sf "$work/ring" "$ring"
	exits 1 "$vpool" mount "$pool" "$mnt"
	one_line
	rm "$ring"
	cp "$work/ring" "$ring"
	is_whole
}

a_missing_ring_record_is_told() {
	fresh
	"$vpool" umount "$mnt"
	mv "$pool/ring.id" "$work/ring.id"
	exits 4 "$vpool" mount "$pool" "$mnt"
	one_line
	says "ring.id"
	mv "$work/ring.id" "$pool/ring.id"
	is_whole
}

# In a mount namespace of its own /dev/shm can be as small as it likes.
a_ring_too_big_for_shared_memory_is_kept_in_the_pool_and_told() {
	fresh
	"$vpool" umount "$mnt"
	cat >"$work/small-shm" <<-'END'
		set -e
		mount -t tmpfs -o size=16m tmpfs /dev/shm
		"$1" mount "$2" "$3"
		ls "$2"/vpool-* >/dev/null
		grep -q "ring: kept in the pool directory.*no room" "$2/vpool.log"
		cmp "$4" "$3/there.raw"
		# It outlives the daemon there, too.
		cp "$4" "$3/more.raw"
		kill -KILL "$("$1" status --json "$3" | sed -n 's/.*"pid": *\([0-9]*\).*/\1/p')"
		"$1" mount "$2" "$3"
		cmp "$4" "$3/more.raw"
		"$1" umount "$3"
		! ls "$2"/vpool-*-* 2>/dev/null
	END
	unshare -m bash "$work/small-shm" "$vpool" "$pool" "$mnt" "$work/there"
	is_whole
}

a_cache_directory_that_is_not_mounted_is_told() {
	cd "$work"
	mkdir -p flash store
	mount -t tmpfs -o size=512m tmpfs flash
	fresh --cache "$work/flash:256M" --backend "file://$work/store"
	"$vpool" umount "$mnt"
	cp -a flash "$work/flash.kept"
	umount flash
	exits 4 "$vpool" mount "$pool" "$mnt"
	one_line
	says "is the cache directory mounted?"
	exits 4 "$vpool" check "$pool"
	same "$(ls -A flash)" "" "what was left in the empty mount point"
	# Another pool's directory there.
	"$vpool" create "$work/second.pool" --cache "$work/flash2:256M" >/dev/null
	mount --bind flash2 flash
	exits 6 "$vpool" mount "$pool" "$mnt"
	one_line
	says "another pool"
	umount flash
	mount --bind flash.kept flash
	is_whole
	umount flash
	rm -rf "$pool" store flash flash2 flash.kept second.pool
}

a_copy_of_a_pool_whose_daemon_died_is_told() {
	fresh
	killed
	cp -a "$pool" "$work/copy"
	exits 6 "$vpool" mount "$work/copy" "$other"
	one_line
	says "is this a copy?"
	says "vpool check --repair"
	not_mounted "$other"
	is_whole
	# The copy without the ring: what was synced.
	exits 0 "$vpool" check --repair "$work/copy"
	"$vpool" mount "$work/copy" "$other"
	cmp "$work/there" "$other/there.raw"
	"$vpool" umount "$other"
	rm -r "$work/copy"
}

# The copy of a clean pool is a pool, on its own parts; on shared ones only one may be at work.
copies_of_a_pool_do_not_share_their_parts() {
	cd "$work"
	mkdir -p store
	fresh --cache "$work/flash:256M" --backend "file://$work/store"
	"$vpool" umount "$mnt"
	cp -a "$pool" "$work/copy"
	"$vpool" mount "$pool" "$mnt"
	exits 5 "$vpool" mount "$work/copy" "$other"
	one_line
	says "$work/flash"
	not_mounted "$other"
	"$vpool" umount "$mnt"
	is_whole
	rm -rf "$pool" "$work/copy" store flash
}

a_pool_of_another_format_version_is_told() {
	fresh
	"$vpool" umount "$mnt"
	"$poolrow" "$pool" 2
	exits 1 "$vpool" mount "$pool" "$mnt"
	one_line
	says "format version 2, this program knows 1"
	exits 1 "$vpool" check "$pool"
	exits 1 "$vpool" check --repair "$pool"
	exits 1 "$vpool" list "$pool"
	not_mounted "$mnt"
	# A feature that this program does not know.
	"$poolrow" "$pool" 1 0x40000000
	exits 1 "$vpool" mount "$pool" "$mnt"
	one_line
	"$poolrow" "$pool" 1 0
	is_whole
}

flipped_bits_of_an_sco_are_told_and_not_served() {
	local sco errors
	fresh
	random_file "$work/good" 4
	cp "$work/good" "$mnt/good.raw"
	cp "$work/good" "$mnt/fill.raw"
	"$vpool" umount "$mnt"
	# An SCO that holds there.raw alone: the first of its stream.
	sco=$(find "$pool/cache/sco" -type f -size +4000k -printf '%T@ %p\n' | sort -n | head -n 1 | cut -d ' ' -f 2)
	cp "$sco" "$work/sco"
	head -c 65536 /dev/zero | tr '\0' X | dd of="$sco" bs=65536 seek=16 count=1 iflag=fullblock conv=notrunc status=none
	: >"$pool/vpool.log"
	"$vpool" mount "$pool" "$mnt"
	refused "Input/output error" dd if="$mnt/there.raw" of=/dev/null bs=1M status=none
	errors=$(grep -c 'volume: read failed' "$pool/vpool.log")
	((errors >= 1 && errors <= 20)) || same "$errors" "1 to 20" "lines of the log"
	# What is whole is served, before it and in other disks.
	cmp -n 524288 "$work/there" "$mnt/there.raw"
	cmp "$work/good" "$mnt/good.raw"
	"$vpool" umount "$mnt"
	exits 6 "$vpool" check --data "$pool"
	says "/there.raw"
	dd if="$work/sco" of="$sco" bs=1M conv=notrunc status=none
	is_whole
}

for t in a_missing_ring_is_told_and_given_up_only_when_asked \
	a_foreign_ring_is_told \
	a_missing_ring_record_is_told \
	a_ring_too_big_for_shared_memory_is_kept_in_the_pool_and_told \
	a_cache_directory_that_is_not_mounted_is_told \
	a_copy_of_a_pool_whose_daemon_died_is_told \
	copies_of_a_pool_do_not_share_their_parts \
	a_pool_of_another_format_version_is_told \
	flipped_bits_of_an_sco_are_told_and_not_served; do
	[[ -n ${1:-} && $t != *"$1"* ]] && continue
	test_it "$t"
	tidy
	remove_rings "$work"
	rm -rf "$pool" "$work"/{second,copy}
done
finish
