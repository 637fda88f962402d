#!/usr/bin/env bash
# Many at once: fio with verification, and renames, links and listings against each other.
# shellcheck disable=SC2012,SC2016,SC2119,SC2317 # tests are called by name; ls is what is tested
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"

fio_job() {
	fio --name=job --directory="$mnt" --size=32M --verify=crc32c --verify_fatal=1 \
		--randrepeat=0 --output="$work/fio" --group_reporting "$@" || {
		tail -n 20 "$work/fio"
		return 1
	}
}

direct_random_writes_verify() {
	fio_job --filename=f1.raw --rw=randwrite --bs=4k --direct=1 --ioengine=libaio --iodepth=32
	rm f1.raw
}

direct_mixed_sizes_verify() {
	fio_job --filename=f2.raw --rw=randwrite --bsrange=512-256k --bs_unaligned=1 --direct=0 \
		--ioengine=psync
	fio_job --filename=f3.raw --rw=randrw --bsrange=4k-1m --direct=1 --ioengine=io_uring \
		--iodepth=16
	rm f2.raw f3.raw
}

many_jobs_verify() {
	fio_job --filename_format='many.$jobnum.raw' --numjobs=6 --size=8M --rw=randwrite --bs=16k \
		--direct=1 --ioengine=libaio --iodepth=8 --fsync=64
	rm many.*.raw
}

cached_files_verify() {
	fio_job --filename_format='cached.$jobnum' --numjobs=4 --size=8M --rw=randwrite --bs=8k \
		--ioengine=psync --fdatasync=32
	rm cached.*
}

writers_to_one_disk_do_not_disturb_each_other() {
	fio_job --filename=one.raw --numjobs=4 --size=8M --offset_increment=8M --rw=randwrite \
		--bs=4k --direct=1 --ioengine=libaio --iodepth=16
	rm one.raw
}

renames_links_and_listings_at_once_leave_a_sound_tree() {
	local i j pids=()
	mkdir -p race/a race/b
	for i in 1 2 3 4; do
		(
			set +e
			for j in $(seq 60); do
				echo "$i $j" >"race/a/$i.$j"
				mv "race/a/$i.$j" race/b/$((j % 7)) 2>/dev/null
				ln race/b/$((j % 7)) "race/a/l$i.$((j % 3))" 2>/dev/null
				mv race/a race/c 2>/dev/null && mv race/c race/a
				rm -f race/b/$((j % 5)) "race/a/l$i.$((j % 2))"
				ls -l race/a race/b >/dev/null 2>&1
			done
			exit 0
		) &
		pids+=($!)
	done
	for i in "${pids[@]}"; do wait "$i"; done
	find race -type f -exec cat {} + >/dev/null
	rm -rf race
}

one_name_is_made_by_one_of_many() {
	local i winners
	for i in $(seq 8); do
		(
			set -C
			echo "$i" 2>/dev/null >only
		) 2>/dev/null && echo "$i" >>"$work/winners" &
	done
	wait
	winners=$(wc -l <"$work/winners")
	same "$winners" 1
	same "$(cat only)" "$(cat "$work/winners")"
	rm only
}

appends_of_many_do_not_overlap() {
	local i pids=()
	for i in 1 2 3 4; do
		(for j in $(seq 200); do printf '%s\n' "$i.$j" >>log.txt; done) &
		pids+=($!)
	done
	for i in "${pids[@]}"; do wait "$i"; done
	same "$(wc -l <log.txt)" 800
	same "$(sort -u log.txt | wc -l)" 800
	rm log.txt
}

# The engine slows writers down when much is not on the backend yet: their requests are put aside.
readers_go_on_while_writers_are_held_up() {
	local start_ms writers
	dd if=/dev/urandom of=read.raw bs=1M count=8 status=none
	fio --name=w --directory="$mnt" --size=48M --filename=held.raw --rw=write --bs=256k --direct=1 \
		--ioengine=libaio --iodepth=64 --verify=crc32c --output="$work/fio" &
	writers=$!
	sleep 0.3
	start_ms=$(now_ms)
	dd if=read.raw of=/dev/null bs=4096 iflag=direct status=none
	ls -l >/dev/null
	echo "reading took $(($(now_ms) - start_ms)) ms"
	(($(now_ms) - start_ms < 5000))
	wait "$writers"
	rm held.raw read.raw
}

# With a log of 8 frames most small writes have to wait.
writes_that_wait_for_room_are_all_done() {
	fio_job --filename_format='wait.$jobnum.raw' --numjobs=6 --size=4M --rw=randwrite --bs=4k \
		--direct=1 --ioengine=libaio --iodepth=64
	fio_job --filename_format='sync.$jobnum.raw' --numjobs=4 --size=1M --rw=randwrite --bs=4k \
		--direct=1 --sync=1 --ioengine=psync
	rm wait.*.raw sync.*.raw
}

cutting_and_punching_go_on_while_writes_wait() {
	local i fio_pid
	fio_job --filename_format='busy.$jobnum.raw' --numjobs=4 --size=4M --rw=randwrite --bs=4k \
		--direct=1 --ioengine=libaio --iodepth=64 &
	fio_pid=$!
	for i in $(seq 40); do
		truncate -s 1M cut.raw
		fallocate -p -o 4096 -l 100000 cut.raw
		truncate -s $((i * 1000)) cut.raw
		same "$(stat -c %s cut.raw)" $((i * 1000))
	done
	wait "$fio_pid"
	rm busy.*.raw cut.raw
}

mount_pool || exit 1
for t in direct_random_writes_verify direct_mixed_sizes_verify many_jobs_verify \
	cached_files_verify writers_to_one_disk_do_not_disturb_each_other; do
	test_with fio "$t"
done
test_it renames_links_and_listings_at_once_leave_a_sound_tree
test_it one_name_is_made_by_one_of_many
test_it appends_of_many_do_not_overlap
umount_pool || failed=$((failed + 1))
# With as few threads and buffers as can be: nothing may get stuck.
mount_pool threads=2 parked=1 background=64 || exit 1
test_with fio direct_random_writes_verify
test_with fio many_jobs_verify
umount_pool || failed=$((failed + 1))
for settings in "threads=4 parked=512" "threads=2 parked=8 places=2" "threads=2 parked=512 places=2"; do
	read -r -a list <<<"$settings"
	mount_pool ring=1M "${list[@]}" || exit 1
	test_with fio writes_that_wait_for_room_are_all_done
	test_with fio cutting_and_punching_go_on_while_writes_wait
	umount_pool || failed=$((failed + 1))
	if ! grep -qE ' [1-9][0-9]* writes were parked' <(grep "writes were parked" "$log" | tail -n 1); then
		failed=$((failed + 1))
		echo "FAILED: no write was parked"
	fi
done
mount_pool threads=2 parked=16 dirty=16M || exit 1
test_with fio readers_go_on_while_writers_are_held_up
umount_pool || failed=$((failed + 1))
finish
