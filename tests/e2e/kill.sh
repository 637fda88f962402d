#!/usr/bin/env bash
# The daemon is killed at random moments under load: what was acknowledged is there afterwards.
# shellcheck disable=SC2012,SC2016,SC2119,SC2317 # tests are called by name; ls is what is tested
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"

rounds=10
[[ ${VPOOL_LONG:-0} == 1 ]] && rounds=200
size=32M
loads=()

start_load() {
	local i round=$1
	loads=()
	for i in 1 2; do
		"$probe" writer "$mnt/disk$i.raw" "$work/disk$i.log" "$size" $((round * 10 + i)) direct 1000000 &
		loads+=($!)
		"$probe" writer "$mnt/file$i" "$work/file$i.log" "$size" $((round * 10 + i)) cached 1000000 &
		loads+=($!)
	done
	"$probe" maker "$mnt/made" "$work/made.log" &
	loads+=($!)
}

under_way() {
	local i
	for i in disk1 disk2 file1 file2 made; do
		[[ -s $work/$i.log ]] || return 1
	done
}

all_acknowledged_writes_are_there() {
	local i
	for i in 1 2; do
		"$probe" verify "disk$i.raw" "$work/disk$i.log" "$size"
		"$probe" verify "file$i" "$work/file$i.log" "$size"
	done
	"$probe" made made "$work/made.log"
}

# The proof itself must be able to fail.
a_lost_write_would_be_noticed() {
	"$probe" writer seen.raw "$work/seen.log" 1M 7 direct 50
	"$probe" verify seen.raw "$work/seen.log" 1M
	cp seen.raw lost.raw
	dd if=/dev/zero of=lost.raw bs=512 seek=1000 count=600 conv=notrunc status=none
	refused "want write" "$probe" verify lost.raw "$work/seen.log" 1M
	rm seen.raw lost.raw
}

writes_acked=0

kill_round() {
	local round=$1 l
	start_load "$round"
	wait_for 20 under_way || return 1
	sleep "0.$((RANDOM % 9 + 1))"
	((RANDOM % 3)) || sleep 1
	kill -KILL "$daemon"
	wait "$daemon" 2>/dev/null
	daemon=0
	for l in "${loads[@]}"; do
		wait "$l" || echo "load $l failed"
	done
	writes_acked=$((writes_acked + $(cat "$work"/disk*.log "$work"/file*.log | wc -c) / 64))
	# The dead mount is cleared by the next one.
	mount_pool || return 1
	test_it all_acknowledged_writes_are_there
	# A write that was under way when the daemon died may be there or not: from here on it counts
	# as it is, so the next round starts with fresh files.
	rm -f "$mnt"/disk* "$mnt"/file* "$work"/disk*.log "$work"/file*.log
}

mount_pool || exit 1
mkdir "$mnt/made"
test_it a_lost_write_would_be_noticed
for ((round = 1; round <= rounds; round++)); do
	kill_round "$round" || {
		failed=$((failed + 1))
		echo "FAILED: mounting after round $round"
		finish
	}
done
echo "$writes_acked writes were acknowledged, $(($(stat -c %s "$work/made.log") / 8)) files were made"
umount_pool || failed=$((failed + 1))
finish
