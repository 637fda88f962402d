#!/usr/bin/env bash
# Random operations on a mount, each mirrored on plain files; the daemon is killed and ended between
# them. What both show is the same, and the pool is sound afterwards.
#
#	VPOOL_SEED=N	repeat that run
#	VPOOL_OPS=N	so many operations (default: 200000, a million with VPOOL_LONG=1)
# shellcheck disable=SC2119,SC2317 # tests are called by name
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"

differ=$(find_program tool_differ)
export PYTHONDONTWRITEBYTECODE=1
ops=200000 kills=30 cleans=10
[[ ${VPOOL_LONG:-0} == 1 ]] && ops=1000000 kills=150 cleans=50
[[ -n $store ]] && ops=30000 kills=6 cleans=4
ops=${VPOOL_OPS:-$ops}
limit_s=$((60 + ops / 200))
[[ -n $store ]] && limit_s=$((60 + ops / 20))
seed=()
[[ -n ${VPOOL_SEED:-} ]] && seed=(--seed "$VPOOL_SEED")
evidence=$work/evidence

set_key() { sed -i "s/^# $1 = .*/$1 = $2/" "$pool/vpool.conf"; }

# All that an engine does in hours is to happen in a minute: small containers, little memory, short
# intervals.
fresh() {
	cd "$work"
	rm -rf "$pool" "$evidence"
	mkdir -p "$evidence/mirror"
	create_pool --sco-size 1M
	set_key ring_size 4M
	set_key metadata_cache 4M
	set_key disk_threshold 8M
	set_key flush_interval 200ms
	set_key checkpoint_interval 1s
	set_key upload_interval 2s
	set_key grace_time 0ns
}

# differ OPTION...: within ten times what it should take
run_differ() {
	timeout --foreground "$limit_s" "$differ" --evidence "$evidence" --pool "$pool" "$@" \
		"$mnt" "$evidence/mirror" "$vpool" mount -f "$pool" "$mnt" 2>>"$log"
}

# The proof itself must be able to fail.
a_difference_is_found() {
	local what
	for what in byte mode size name snapshot; do
		fresh
		exits 1 run_differ --ops 500 --kills 0 --cleans 0 --seed 1 --spoil "$what"
		says "MISMATCH"
		tidy
	done
}

# keep: what helps to find the cause of a difference
keep() {
	local kept
	kept=$(mktemp -d "${TMPDIR:-/tmp}/vpool-differ.XXXXXX")
	tidy
	cp "$log" "$evidence/log"
	mv "$evidence" "$pool" "$kept"
	echo "mirror, trace, pool and log are kept in '$kept'"
}

operations_do_what_they_do_on_plain_files() {
	fresh
	run_differ --ops "$ops" --kills "$kills" --cleans "$cleans" "${seed[@]}" || {
		keep
		return 1
	}
}

the_walker_finds_the_pool_sound() { walk_pool; }

# With what came and died since the last root, too.
the_walker_finds_a_new_root_sound() {
	cd "$work"
	"$vpool" mount "$pool" "$mnt"
	two_roots
	"$vpool" umount "$mnt"
	exits 0 walk_pool
	[[ -n $store ]] || says "unswept 0"
}

check_finds_the_pool_sound() { "$vpool" check --data "$pool"; }

# Snapshots and all that is no directory, in any order; sticky ones keep their files until then.
delete_all() {
	local name kind
	cd "$mnt" || return 1
	while IFS= read -r -d '' name; do
		"$vpool" snapshot sticky "$(dirname "${name#.snapshots/}")" "$(basename "$name")" off
	done < <(find .snapshots -type f -print0)
	while IFS= read -r -d '' name; do
		kind=${name:0:1} name=${name:1}
		[[ -e $name || -L $name ]] || continue # it went with its disk
		if [[ $kind == s ]]; then
			"$vpool" snapshot delete "$(dirname "${name#.snapshots/}")" "$(basename "$name")"
		else
			rm "$name"
		fi
	done < <({
		find .snapshots -type f -printf 's%p\0'
		find . -mindepth 1 ! -type d -printf 'f%p\0'
	} | shuf -z --random-source=<(yes "${VPOOL_SEED:-0}"))
	find . -mindepth 1 -delete
	"$vpool" trash empty "$mnt" --all >/dev/null
	cd "$work" || return 1
}

# what_is_left: files of the cache, objects but for those that every pool has. What a killed upload left below
# tmp goes a day later.
what_is_left() {
	find "$pool/cache/sco" -type f -printf '%f\n'
	find "$pool/objects" -type f -printf '%P\n' |
		grep -Ev '^(pool\.json|tmp/.*|epoch/[0-9a-f]{16}|(root|ns)/[-0-9a-f]{33}|00000001/(manifest|map|piece)/[-0-9a-f]*)$'
}

nothing_more_is_left() {
	two_roots
	rm -f "$mnt/between"
	"$vpool" sync "$mnt" >/dev/null
	[[ -z $(what_is_left) ]]
}

# Streams of disks that became files and went are forgotten by the next start, so there is one.
nothing_is_left_when_all_is_deleted() {
	cd "$work"
	"$vpool" mount "$pool" "$mnt"
	[[ -n $(what_is_left) ]]
	delete_all
	"$vpool" umount "$mnt"
	"$vpool" mount "$pool" "$mnt"
	wait_for 60 nothing_more_is_left || {
		echo "left: $(what_is_left)"
		return 1
	}
	"$vpool" umount "$mnt"
}

# What was done is worth reading.
show_it() {
	test_it "$1"
	sed 's/^/    /' "$work/out"
}

test_it a_difference_is_found
show_it operations_do_what_they_do_on_plain_files
if ((failed == 0)); then
	test_with python3 the_walker_finds_the_pool_sound
	test_with python3 the_walker_finds_a_new_root_sound
	test_it check_finds_the_pool_sound
	if [[ -z $store ]]; then
		test_it nothing_is_left_when_all_is_deleted
		test_with python3 the_walker_finds_the_pool_sound
	fi
fi
finish
