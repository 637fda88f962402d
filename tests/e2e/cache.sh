#!/usr/bin/env bash
# Flash as a cache: a disk that is larger than it, a backend that goes away and comes back.
# shellcheck disable=SC2119,SC2317 # tests are called by name
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"

store=$work/store
cache_mib=128
disk_mib=512

# A daemon that is in trouble must not keep the suite for ever.
bounded() { timeout --foreground 60 "$@"; }

fresh_pool() {
	rm -rf "$pool" "$store" "$work/cache"
	mkdir "$store"
	"$vpool" create "$pool" --sco-size 4M --cache "$work/cache:${1}M" --backend "file://$store" >/dev/null
	sed -i "s/^\[backend\]/&\ncopy = copy/" "$pool/vpool.conf"
}

counter_of() { json "$("$vpool" stats --json "$mnt")" "d['counters']['$1']"; }
hash_of() { bounded dd if="$1" bs=1M iflag=direct status=none | sha256sum; }
used_mib() { du -sm "$work/cache" | cut -f 1; }
ended() { ! kill -0 "$1" 2>/dev/null; }

# MIB of bytes that nothing compresses and that a seed tells again.
bytes_of() {
	head -c "$(($1 << 20))" /dev/zero |
		openssl enc -aes-256-ctr -nosalt -pass "pass:$2" -pbkdf2 -iter 1 2>/dev/null
}

a_disk_larger_than_flash_reads_back_after_a_remount() {
	cd "$work"
	fresh_pool "$cache_mib"
	"$vpool" mount "$pool" "$mnt"
	bytes_of "$disk_mib" 1 | dd of="$mnt/large.raw" bs=1M iflag=fullblock oflag=direct status=none
	want=$(bytes_of "$disk_mib" 1 | sha256sum)
	sync -f "$mnt"
	(($(used_mib) <= cache_mib + 8))
	"$vpool" umount "$mnt"
	"$vpool" mount "$pool" "$mnt"
	same "$(hash_of "$mnt/large.raw")" "$want" "the disk"
	(($(used_mib) <= cache_mib + 8))
	(($(counter_of volume.scos_evicted) + $(counter_of cache.fetches) > 0))
	# What was just fetched is here.
	dd if="$mnt/large.raw" of="$work/first" bs=1M count=8 iflag=direct status=none
	cmp "$work/first" <(bytes_of 8 1)
	"$vpool" umount "$mnt"
	"$vpool" check "$pool"
}

# The mount of the test before, its disk mostly on the backend only.
reads_of_what_the_backend_has_wait_while_it_is_away() {
	cd "$work"
	"$vpool" mount "$pool" "$mnt"
	mv "$store" "$store.away"
	dd if=/dev/zero of="$mnt/other.raw" bs=1M count=4 oflag=direct status=none # writes go on
	dd if="$mnt/large.raw" bs=1M count=300 iflag=direct status=none | sha256sum >"$work/want" &
	dd if="$mnt/large.raw" bs=1M count=300 iflag=direct status=none | sha256sum >"$work/want" &
	reader=$!
	wait_for 30 grep -q 'reads of what only it has wait' "$pool/vpool.log"
	kill -0 "$reader"
	bounded ls -l "$mnt" >/dev/null
	# A reader that is killed is let go.
	dd if="$mnt/large.raw" bs=1M skip=100 iflag=direct of=/dev/null status=none &
	killed=$!
	sleep 0.2
	kill -KILL "$killed"
	wait_for 45 ended "$killed"
	mv "$store.away" "$store"
	wait "$reader"
	same "$(cat "$work/want")" "$(bytes_of 300 1 | sha256sum)" "the disk"
	wait_for 10 grep -q 'reads go on' "$pool/vpool.log"
	same "$(grep -c 'reads of what only it has wait' "$pool/vpool.log")" 1 "lines of the log"
	"$vpool" umount "$mnt"
}

for t in a_disk_larger_than_flash_reads_back_after_a_remount \
	reads_of_what_the_backend_has_wait_while_it_is_away; do
	[[ -n ${1:-} && $t != *"$1"* ]] && continue
	test_it "$t"
	tidy
done
finish
