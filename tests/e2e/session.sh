#!/usr/bin/env bash
# The life of a mount: starting, refusing, stopping with and without order.
# shellcheck disable=SC2012,SC2016,SC2119,SC2317 # tests are called by name; ls is what is tested
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"

# SIGTERM; the daemon must end in SECONDS with exit code 0, and the mount be gone.
stop_within() {
	kill -TERM "$daemon"
	if ! wait_for "$1" is_gone "$daemon"; then
		echo "still running after $1 s"
		return 1
	fi
	wait "$daemon" || {
		echo "exit code $?"
		return 1
	}
	! mountpoint -q "$mnt"
}

# In this shell, not in a subshell: the daemon is its child.
in_order() {
	if "$@" >"$work/out" 2>&1; then
		passed=$((passed + 1))
		echo "ok: ${1//_/ }"
	else
		failed=$((failed + 1))
		echo "FAILED: ${1//_/ }"
		tail -n 20 "$work/out" | sed 's/^/    /'
	fi
	((daemon == 0)) || is_gone "$daemon" 2>/dev/null || kill -KILL "$daemon"
	daemon=0
	umount -l "$mnt" 2>/dev/null
	return 0
}

the_mount_shows_its_pool_and_type() {
	mount_pool || return 1
	same "$(findmnt -n -o SOURCE,FSTYPE "$mnt" | tr -s ' ')" "$pool fuse.vpool" || return 1
	findmnt -n -o OPTIONS "$mnt" | grep -q default_permissions || return 1
	stop_within 5
}

a_stop_ends_an_idle_mount() {
	mount_pool || return 1
	echo text >"$mnt/file"
	stop_within 5
}

what_a_mapping_made_dirty_survives_a_stop() {
	mount_pool || return 1
	same "$(cat "$mnt/file")" text || return 1
	truncate -s 64K "$mnt/mapped"
	"$probe" mmap "$mnt/mapped" 40000 dirty || return 1
	stop_within 5 || return 1
	mount_pool || return 1
	same "$(dd if="$mnt/mapped" bs=1 skip=40000 count=5 status=none)" dirty || return 1
	stop_within 5
}

a_stop_does_not_wait_for_open_files() {
	mount_pool || return 1
	exec 7>"$mnt/open"
	echo before >&7
	stop_within 8 || return 1
	if echo after 2>/dev/null >&7; then
		echo "a write after the end was accepted"
		return 1
	fi
	exec 7>&-
	mount_pool || return 1
	same "$(cat "$mnt/open")" before || return 1
	stop_within 5
}

a_stop_under_load_loses_nothing() {
	local load r
	mount_pool || return 1
	"$probe" writer "$mnt/load.raw" "$work/load.log" 16M 1 direct 1000000 &
	load=$!
	sleep 0.5
	stop_within 20
	r=$?
	wait "$load"
	((r == 0)) || return 1
	mount_pool || return 1
	"$probe" verify "$mnt/load.raw" "$work/load.log" 16M || return 1
	stop_within 5
}

a_lazy_unmount_serves_open_files_to_the_end() {
	mount_pool || return 1
	exec 7>"$mnt/lazy"
	umount -l "$mnt"
	echo later >&7 || return 1
	exec 7>&-
	wait_for 5 is_gone "$daemon" || return 1
	mount_pool || return 1
	same "$(cat "$mnt/lazy")" later || return 1
	stop_within 5
}

a_read_only_mount_changes_nothing() {
	mount_pool ro=1 || return 1
	same "$(cat "$mnt/file")" text || return 1
	refused "Read-only" touch "$mnt/new" || return 1
	refused "Read-only" rm "$mnt/file" || return 1
	stop_within 5
}

a_mount_point_in_use_is_refused() {
	mount_pool || return 1
	refused "already" "$fsmount" "$work/pool2" "$mnt" || return 1
	refused "No such file" "$fsmount" "$work/pool2" "$work/nowhere" || return 1
	same "$(cat "$mnt/file")" text || return 1
	stop_within 5
}

a_dead_mount_is_cleared_by_the_next() {
	mount_pool || return 1
	kill -KILL "$daemon"
	wait "$daemon" 2>/dev/null
	refused "not connected" ls "$mnt" || return 1
	mount_pool || return 1
	same "$(cat "$mnt/file")" text || return 1
	stop_within 5 || return 1
	same "$(grep -c " $mnt " /proc/mounts)" 0
}

many_threads_and_few_serve_alike() {
	local n
	for n in 1 2 64; do
		mount_pool threads="$n" || return 1
		cp -r /usr/include/linux "$mnt/tree$n" || return 1
		diff -r /usr/include/linux "$mnt/tree$n" || return 1
		stop_within 5 || return 1
	done
}

names_with_odd_characters_can_be_mounted_on() {
	local plain_mnt=$mnt plain_pool=$pool r
	mnt="$work/a mount, with \\ and ü"
	pool="$work/a pool, with \\ and ü"
	mkdir "$mnt" "$pool"
	mount_pool && echo there >"$mnt/file" && same "$(findmnt -n -o SOURCE "$mnt")" "$pool" &&
		stop_within 5
	r=$?
	mnt=$plain_mnt
	pool=$plain_pool
	return "$r"
}

for t in the_mount_shows_its_pool_and_type a_stop_ends_an_idle_mount \
	what_a_mapping_made_dirty_survives_a_stop a_stop_does_not_wait_for_open_files \
	a_stop_under_load_loses_nothing a_lazy_unmount_serves_open_files_to_the_end \
	a_read_only_mount_changes_nothing a_mount_point_in_use_is_refused \
	a_dead_mount_is_cleared_by_the_next many_threads_and_few_serve_alike \
	names_with_odd_characters_can_be_mounted_on; do
	in_order $t
done
finish
