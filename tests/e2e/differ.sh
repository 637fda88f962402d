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
ops=${VPOOL_OPS:-$ops}
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
	timeout --foreground $((60 + ops / 200)) "$differ" --evidence "$evidence" --pool "$pool" "$@" \
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

the_walker_finds_the_pool_sound() { python3 "$root/tests/walker/walk.py" "$pool"; }

# With what came and died since the last root, too.
the_walker_finds_a_new_root_sound() {
	cd "$work"
	"$vpool" mount "$pool" "$mnt"
	two_roots
	"$vpool" umount "$mnt"
	exits 0 python3 "$root/tests/walker/walk.py" "$pool"
	says "unswept 0"
}

check_finds_the_pool_sound() { "$vpool" check --data "$pool"; }

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
fi
finish
