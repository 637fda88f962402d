#!/usr/bin/env bash
# The capacity: what does not fit is refused with "No space left on device", df says how much there is,
# and what is deleted makes room.
# shellcheck disable=SC2119,SC2317 # tests are called by name
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"

capacity=$((64 << 20))

fresh_pool() {
	cd "$work"
	rm -rf "$pool"
	"$vpool" create "$pool" --sco-size 1M >/dev/null
	printf '[pool]\ncapacity = 64M\n[cache]\ncheckpoint_interval = 1h\n' >>"$pool/vpool.conf"
	"$vpool" mount "$pool" "$mnt"
}

df_of() { df -B1 --output="$1" "$mnt" | tail -n 1 | tr -d ' '; }

# write_disk NAME MIB [dd's options]
write_disk() {
	local name=$1 mib=$2
	shift 2
	dd if=/dev/urandom of="$mnt/$name" bs=1M count="$mib" status=none "$@"
}

end_pool() {
	"$vpool" umount "$mnt"
	"$vpool" check --data "$pool"
}

a_full_pool_says_so_at_once_and_takes_data_again_after_a_deletion() {
	fresh_pool
	same "$(df_of size)" "$capacity" "size"
	same "$(df_of used)" 0 "used"
	write_disk one.raw 24 oflag=direct
	"$vpool" sync "$mnt"
	same "$(df_of used)" $((24 << 20)) "used"
	exits 1 write_disk two.raw 100 oflag=direct
	says "No space left on device"
	same "$(stat -c %s "$mnt/two.raw")" $((40 << 20)) "what fitted"
	same "$(df_of used)" "$capacity" "used"
	same "$(df_of avail)" 0 "available"
	same "$(status_of "$mnt" 'd["state"]')" degraded
	same "$(status_of "$mnt" 'd["used_bytes"]')" "$capacity"
	same "$(status_of "$mnt" 'd["capacity_bytes"]')" "$capacity"
	same "$(grep -c 'capacity reached' "$pool/vpool.log")" 1 "lines of the log"
	# Also through the page cache; names need no room.
	exits 1 cp "$work/some" "$mnt/small.txt"
	says "No space left on device"
	mkdir "$mnt/dir"
	mv "$mnt/small.txt" "$mnt/dir"
	rm "$mnt/dir/small.txt"
	# What is there can be written again, and cut.
	write_disk two.raw 40 oflag=direct conv=notrunc
	exits 1 write_disk two.raw 1 oflag=direct conv=notrunc seek=40
	rm "$mnt/one.raw"
	wait_for 60 write_disk three.raw 20 oflag=direct
	truncate -s 4M "$mnt/two.raw"
	"$vpool" sync "$mnt"
	same "$(df_of used)" $((24 << 20)) "used"
	same "$(status_of "$mnt" 'd["state"]')" ok
	write_disk four.raw 40 oflag=direct
	end_pool
	"$vpool" mount "$pool" "$mnt"
	same "$(df_of used)" "$capacity" "used"
	exits 1 write_disk five.raw 1 oflag=direct
	sed -i 's/^capacity = .*/capacity = 72M/' "$pool/vpool.conf"
	exits 0 "$vpool" config reload "$mnt"
	wait_for 60 write_disk five.raw 8 oflag=direct
	same "$(df_of used)" $((72 << 20)) "used"
	"$vpool" umount "$mnt"
}

without_a_capacity_df_shows_the_disk_below() {
	cd "$work"
	rm -rf "$pool"
	"$vpool" create "$pool" --sco-size 1M >/dev/null
	"$vpool" mount "$pool" "$mnt"
	same "$(df_of size)" "$(df -B1 --output=size "$pool" | tail -n 1 | tr -d ' ')" "size"
	"$vpool" umount "$mnt"
}

random_file "$work/some" 1
for t in a_full_pool_says_so_at_once_and_takes_data_again_after_a_deletion \
	without_a_capacity_df_shows_the_disk_below; do
	[[ -n ${1:-} && $t != *"$1"* ]] && continue
	test_it "$t"
	tidy
done
finish
