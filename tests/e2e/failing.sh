#!/usr/bin/env bash
# A device fails syncs, for a moment or for good: who uses the mount sees a pause or the truth, nothing that was
# synced is lost, and other disks go on. The cache lies on tests/tools/cutfs.c, which fails as it is told to.
# shellcheck disable=SC2119,SC2317 # tests are called by name
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"

cutfs=$(find_program tool_cutfs)
load=$(find_program tool_fsload)
device=$work/device
control=$device/.cutfs
cutter=0
size=2M
loads=()
mkdir "$device"

end_loads() {
	local l
	for l in "${loads[@]}"; do
		kill -TERM "$l" 2>/dev/null || true
		wait "$l" 2>/dev/null || true
	done
	loads=()
}

# fresh CACHE_DIR...: a pool that is mounted, its cache on the device that fails.
fresh() {
	local dir caches=()
	for dir; do caches+=(--cache "$device/$dir:4G"); done
	tidy # after a test that failed
	rm -rf "$work/store" "$pool" "$work"/*.log
	mkdir "$work/store"
	"$cutfs" "$work/store" "$device" >"$work/cutfs.out" 2>>"$log" &
	cutter=$!
	wait_for 20 grep -q ready "$work/cutfs.out"
	"$vpool" create "$pool" --sco-size 1M "${caches[@]}" >/dev/null
	"$vpool" mount "$pool" "$mnt"
}

gone() {
	cd "$work"
	end_loads
	exits 0 "$vpool" umount "$mnt"
	fail 0 none # it knows of no failure
	exits 0 "$vpool" check --data "$pool"
	umount "$device"
	wait "$cutter"
}

start_load() {
	: >"$work/$1.log"
	"$load" write "$mnt/$1" "$work/$1.log" "$size" "$RANDOM" "$2" &
	loads+=($!)
}

# grows NAME: its load gets answers
grows() {
	local was
	was=$(stat -c %s "$work/$1.log")
	wait_for 20 has_grown "$1" $((was + 6400))
}
has_grown() { (($(stat -c %s "$work/$1.log") > $2)); }

all_is_there() {
	local name
	for name; do "$load" check "$mnt/$name" "$work/$name.log" "$size"; done
}

# fail COUNT GLOB: so many syncs
fail() { echo "fail $1 $2" >"$control"; }
fails_left() { [[ $(cut -d ' ' -f 3 "$control") == "$1" ]]; }
scos_of() { printf 'cache*/sco/%08x-*' "$("$vpool" info --json "$mnt/$1" | sed -n 's/.*"stream": *\([0-9]*\).*/\1/p')"; }
status_is() { same "$(status_of "$mnt" "$1" 2>/dev/null)" "$2"; }
# One sync of what matches that somebody waits for: that of an index may be the one, and is simply tried again.
fail_one() {
	local i
	for ((i = 0; i < 20; i++)); do
		fail 1 "$1"
		wait_for 20 fails_left 0
		wait_for 5 status_is 'd["workers"]' 2 && return
	done >/dev/null
	return 1
}
root_of() { json "$("$vpool" sync --json "$mnt")" 'd["root"]'; }

a_sync_that_fails_once_is_a_pause() {
	local before
	fresh cache
	start_load a.raw direct
	start_load file cached
	for name in a.raw file; do grows "$name"; done
	# What no log tells: without another start there would be no root any more.
	"$vpool" snapshot create --name before "$mnt/a.raw" >/dev/null
	before=$(root_of)
	"$vpool" snapshot create --name behind "$mnt/a.raw" >/dev/null
	fail_one "$(scos_of a.raw)"
	for name in a.raw file; do grows "$name"; done
	for l in "${loads[@]}"; do kill -0 "$l"; done
	status_is '(d["state"], d["restarts"])' "('ok', 1)"
	grep -q 'a device failed, another daemon goes on' "$pool/vpool.log"
	end_loads
	all_is_there a.raw file
	(($(root_of) > before))
	"$vpool" snapshot info "$mnt/a.raw" behind >/dev/null
	status_is '(d["workers"], d["restarts"])' '(2, 1)'
	gone
}

a_directory_that_fails_gives_way_to_another() {
	local new
	fresh cache1 cache2
	start_load a.raw direct
	start_load b.raw direct
	for name in a.raw b.raw; do grows "$name"; done
	fail 1000000 'cache2/*'
	wait_for 20 status_is 'd["restarts"]' 1
	for name in a.raw b.raw; do grows "$name"; done
	for l in "${loads[@]}"; do kill -0 "$l"; done
	status_is 'd["state"]' degraded
	status_of "$mnt" 'd["reason"]' | grep -q "cache directory '$device/cache2' failed"
	# Nothing new is put there; not even to die there.
	: >"$work/then"
	for name in a.raw b.raw; do grows "$name"; done
	new=$(find "$device/cache2/sco" -newer "$work/then" -name '*-00000000')
	same "$new" "" "new files where syncs fail"
	status_is 'd["restarts"]' 1
	end_loads
	all_is_there a.raw b.raw
	gone
}

# The pool directory itself on the device: after a sync that failed the metadata may refuse all commits.
metadata_that_fails_is_a_pause() {
	local own=$pool i
	fresh cache
	"$vpool" umount "$mnt" >/dev/null
	rm -rf "$pool"
	pool=$device/pool
	"$vpool" create "$pool" --sco-size 1M >/dev/null
	"$vpool" mount "$pool" "$mnt"
	mkdir "$mnt/before"
	sync "$mnt/before"
	for i in {1..5}; do
		fail 1 'pool/meta/*.log'
		mkdir "$mnt/dir$i"
		sync "$mnt/dir$i"
		fails_left 0 || return 1
		(($(status_of "$mnt" 'd["workers"]') == 1)) || break
	done
	status_is '(d["state"], d["workers"] > 1)' "('ok', True)"
	mkdir "$mnt/behind"
	sync "$mnt/behind"
	"$vpool" umount "$mnt" >/dev/null
	"$vpool" mount "$pool" "$mnt"
	[[ -d $mnt/before && -d $mnt/dir1 && -d $mnt/behind ]]
	gone
	pool=$own
}

a_device_that_goes_on_failing_is_told_and_not_tried_for_ever() {
	local start_ms worker
	fresh cache
	start_load a.raw direct
	grows a.raw
	end_loads
	random_file "$work/kept" 2
	cp "$work/kept" "$mnt/kept.raw"
	sync "$mnt/kept.raw"
	worker=$(status_of "$mnt" 'd["worker_pid"]')
	fail 1000000 'cache/*'
	start_ms=$(now_ms)
	printf x | dd of="$mnt/a.raw" conv=notrunc,fsync status=none 2>"$work/said" && return 1
	grep -q 'Input/output error' "$work/said"
	(($(now_ms) - start_ms < 30000))
	status_is '(d["state"], d["restarts"], d["worker_pid"])' "('degraded', 0, $worker)"
	status_of "$mnt" 'd["reason"]' | grep -q "vpool upgrade"
	# At once from now on, and reading goes on.
	start_ms=$(now_ms)
	refused 'Input/output error' sync "$mnt/a.raw"
	(($(now_ms) - start_ms < 2000))
	cmp "$work/kept" "$mnt/kept.raw"
	# The cure that it names.
	fail 0 none
	exits 0 "$vpool" upgrade "$mnt"
	sync "$mnt/a.raw"
	same "$(head -c 1 "$mnt/a.raw")" x
	status_is 'd["state"]' ok
	root_of >/dev/null
	cmp "$work/kept" "$mnt/kept.raw"
	gone
}

cd "$work" || exit 1
test_it a_sync_that_fails_once_is_a_pause
test_it a_directory_that_fails_gives_way_to_another
test_it metadata_that_fails_is_a_pause
test_it a_device_that_goes_on_failing_is_told_and_not_tried_for_ever
finish
