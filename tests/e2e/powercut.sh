#!/usr/bin/env bash
# The power goes off at random moments under load: what was synced is there afterwards, and of the rest
# only what was written. The pool lies on tests/tools/cutfs.c, which forgets what was not synced.
# VPOOL_SEED repeats the decisions of a run, VPOOL_CUTS says how many cuts, VPOOL_KEEP names a directory
# for what is left of a pool that lost something.
# shellcheck disable=SC2119,SC2317 # tests are called by name

# A machine that lost its power has another boot id and an empty /dev/shm: only for us.
if [[ -z ${POWERCUT_ALONE:-} && $(id -u) == 0 ]]; then
	POWERCUT_ALONE=1 exec unshare --mount --propagation private "$0" "$@"
fi
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"

cutfs=$(find_program tool_cutfs)
load=$(find_program tool_fsload)
cuts=50
[[ ${VPOOL_LONG:-0} == 1 ]] && cuts=120
[[ -n $store ]] && cuts=20
cuts=${VPOOL_CUTS:-$cuts}
seed=${VPOOL_SEED:-$((RANDOM * 32768 + RANDOM))}
RANDOM=$((seed % 32768))
cuts_a_pool=10
# Of the changes that one recovery makes, there is a cut at every so many; 0: not that test.
sweep=${VPOOL_SWEEP:-$((${VPOOL_LONG:-0} == 1 ? 3 : 0))}
# It begins from one state again and again, which a store that lives on takes for another owner.
[[ -n $store ]] && sweep=0
size=6M
objects=(disk1.raw disk2.raw file1 file2)
under=$work/under
disk=$work/disk
flash_dir=$disk/flash
pool=$disk/pool
control=$disk/.cutfs
cutter=0
loads=()
cuts_done=0
pools=0
cuts_in_mount=0
cuts_in_umount=0
mkdir "$disk"
: >"$work/cuts"
echo >"$work/boot_id"
mount --bind "$work/boot_id" /proc/sys/kernel/random/boot_id || exit 1
mount -t tmpfs tmpfs /dev/shm || exit 1

# What survives: what is under the cutter, and a store of the network. What does not: the ring, the boot.
power_on() {
	rm -f /dev/shm/*
	cat /proc/sys/kernel/random/uuid >"$work/boot_id"
	: >"$work/cutfs.out"
	"$cutfs" "$under" "$disk" >"$work/cutfs.out" 2>>"$log" &
	cutter=$!
	wait_for 20 grep -q ready "$work/cutfs.out"
}

answers() { mountpoint -q "$mnt"; }
answers_or_ends() { answers || is_gone "$daemon"; }

start_daemon() {
	"$vpool" mount -f "$pool" "$mnt" >>"$log" 2>&1 &
	daemon=$!
	wait_for 60 answers_or_ends && answers
}

power_is_off() { [[ $(<"$control") == cut* ]]; }

# Files of a process that was killed may be open for a moment longer.
unplug() { wait_for 30 umount "$disk" && wait "$cutter"; }

# After a cut: nothing is left of the machine that was.
clear_away() {
	local l
	kill -KILL "$daemon" 2>/dev/null
	wait "$daemon" 2>/dev/null
	daemon=0
	for l in "${loads[@]}"; do
		wait "$l" || {
			echo "load $l failed"
			return 1
		}
	done
	loads=()
	umount -l "$mnt" 2>/dev/null
	unplug
}

start_load() {
	local name how
	loads=()
	for name in "${objects[@]}"; do
		how=cached
		[[ $name == *.raw ]] && how=direct
		"$load" write "$mnt/$name" "$work/$name.log" "$size" "$RANDOM" "$how" &
		loads+=($!)
	done
	mkdir -p "$mnt/names" && sync "$mnt" # a directory: fsync
	"$load" names "$mnt/names" "$work/names.log" "$RANDOM" &
	loads+=($!)
}

under_way() {
	local name
	for name in "${objects[@]}" names; do
		(($(stat -c %s "$work/$name.log") > ${before[$name]:-0} + 640)) || return 1
	done
}

all_that_was_synced_is_there() {
	local name bad=0
	for name in "${objects[@]}"; do
		echo "$name:"
		"$load" check "$mnt/$name" "$work/$name.log" "$size" || bad=1
	done
	"$load" check-names "$mnt/names" "$work/names.log" || bad=1
	return $bad
}

# lost WHAT: the end of this run; what is left of the pool is kept where it was asked for.
lost() {
	failed=$((failed + 1))
	echo "FAILED: cut $cuts_done (seed $seed) $1:"
	tail -n 20 "$work/out" | sed 's/^/    /'
	if [[ -n ${VPOOL_KEEP:-} ]]; then
		mkdir -p "$VPOOL_KEEP"
		[[ -d $pool ]] && cp -a "$pool" "$VPOOL_KEEP/"
		cp -a "$work"/*.log "$work"/*.was "$log" "$under/cuts" "$VPOOL_KEEP/" 2>/dev/null
	fi
	ended
}

# set_key KEY VALUE: of the new pool
set_key() { sed -i "s/^# $1 = .*/$1 = $2/" "$pool/vpool.conf"; }

new_pool() {
	local name caches=() shm=1g
	rm -rf "$under" "$work"/*.log "$work"/*.was
	mkdir "$under"
	for name in "${objects[@]}" names; do
		: >"$work/$name.log"
	done
	power_on || return 1
	# Some have their cache on two directories; some a ring that shared memory has no room for, in
	# the pool directory: what a cut leaves of it is of another boot.
	pools=$((pools + 1))
	((pools % 2)) || [[ -n $store ]] || caches=(--cache "$disk/fast:8G" --cache "$disk/slow:8G")
	((pools % 3)) || shm=64k
	mount -o "remount,size=$shm" /dev/shm || return 1
	create_pool --sco-size 1M "${caches[@]}" || return 1
	# What happens every half a minute happens here several times between two cuts.
	set_key ring_size 8M
	set_key checkpoint_interval 1s
	set_key upload_interval 1s
	set_key grace_time 0ns
	sync "$pool/vpool.conf" "$pool"
	start_daemon || return 1
	# Before the path in ring.id there may be a byte that looks like the beginning of one.
	[[ $shm == 1g || $(ring_of "$pool") == *"$pool"/vpool-* ]]
}

# The pool was closed: nothing leaks, nothing is missing, and it lost nothing by that.
close_pool() {
	two_roots || return 1
	"$vpool" umount "$mnt" >/dev/null || return 1
	wait "$daemon" || return 1
	daemon=0
	walk_pool || return 1
	unplug || return 1
	cat "$under/cuts" >>"$work/cuts" && rm "$under/cuts"
}

# cut_in_mount N: with the N-th change that recovery makes, if it makes so many.
cut_in_mount() {
	echo "cut $((seed * 10000 + cuts_done)) $1" >"$control"
	start_daemon
	local mounted=$?
	echo stay >"$control"
	power_is_off || return $mounted
	cuts_in_mount=$((cuts_in_mount + 1))
	cuts_done=$((cuts_done + 1))
	clear_away && power_on && start_daemon
}

# The same while it is unmounted; there is a cut in any case.
cut_in_umount() {
	local l
	for l in "${loads[@]}"; do
		kill -TERM "$l"
		wait "$l"
	done
	loads=()
	echo "cut $((seed * 10000 + cuts_done)) $((1 + RANDOM % 300))" >"$control"
	timeout 60 "$vpool" umount "$mnt"
	power_is_off && cuts_in_umount=$((cuts_in_umount + 1))
	power_off
}

power_off() {
	echo "cut $((seed * 10000 + cuts_done))" >"$control"
	cuts_done=$((cuts_done + 1))
	clear_away && power_on
}

load_and_power_off() {
	local name
	for name in "${objects[@]}" names; do
		before[$name]=$(stat -c %s "$work/$name.log")
	done
	start_load
	wait_for 30 under_way || {
		echo "the load does not start"
		return 1
	}
	case $((RANDOM % 4)) in
	0) sleep "1.$((RANDOM % 4))" ;;
	*) sleep "0.$((RANDOM % 4))$((RANDOM % 10))" ;;
	esac
	if ((RANDOM % 6 == 0)); then
		cut_in_umount || return 1
	else
		power_off || return 1
	fi
	for name in "${objects[@]}" names; do
		cp "$work/$name.log" "$work/$name.was"
	done
}

cut_round() {
	load_and_power_off || return 1
	if ((RANDOM % 3 == 0)); then
		cut_in_mount $((1 + RANDOM % 100))
	else
		start_daemon
	fi
}

# One crash, and then a cut at each change that the recovery from it makes (or at every so many).
every_step_of_recovery() {
	local step changes=$1 ms=0 name
	load_and_power_off && unplug || return 1
	cp -a "$under" "$work/base"
	for ((step = 1;; step += changes)); do
		rm -rf "$under"
		cp -a "$work/base" "$under"
		for name in "${objects[@]}" names; do
			cp "$work/$name.was" "$work/$name.log"
		done
		power_on || return 1
		ms=$cuts_in_mount
		cut_in_mount "$step" || return 1
		all_that_was_synced_is_there || return 1
		((cuts_in_mount > ms)) || break
		power_off && unplug || return 1
	done
	echo "a mount makes $step changes at most"
}

# Sums of what the cuts did, "kind kept dropped" each.
totals() {
	awk '{
		for (i = 2; i <= NF; i++) {
			split($i, pair, "=")
			sum[pair[1]] += pair[2]
		}
	} END {
		n = split("data hole size truncate create link unlink rename directory", kind, " ")
		for (i = 1; i <= n; i++)
			printf "%s %d/%d, ", kind[i], sum[kind[i] "_kept"], sum[kind[i] "_dropped"]
		printf "torn %d, files lost %d\n", sum["torn"], sum["files_lost"]
	}' "$work/cuts"
}

ended() {
	[[ -f $under/cuts ]] && cat "$under/cuts" >>"$work/cuts"
	echo "seed $seed: $cuts_done cuts, $cuts_in_mount of them in mounting," \
		"$cuts_in_umount in unmounting"
	echo "effects kept/dropped: $(totals)"
	finish
}

# The filesystem itself, with seeds that keep nothing, or all, of what was not synced.
cut_a_small_disk() {
	rm -rf "$under"
	mkdir "$under"
	power_on
	cd "$disk"
	echo data and name >both
	sync both .
	echo name >name
	sync .
	echo data >data
	sync data
	echo other >both
	mv name moved
	mkdir dir
	echo "cut $1" >"$control"
	refused "Input/output error" cat both
	cd "$work"
	unplug
	grep "seed=$1 keep_ppm=$2 " "$under/cuts"
	power_on
	cd "$disk"
}

a_cut_may_take_all_that_was_not_synced() {
	cut_a_small_disk 11 0
	same "$(ls)" "both"$'\n'"name"
	same "$(<both)" "data and name"
	same "$(<name)" ""
	cd "$work"
	unplug
}

a_cut_may_take_nothing() {
	cut_a_small_disk 16 1000000
	same "$(ls)" "both"$'\n'"data"$'\n'"dir"$'\n'"moved"
	same "$(<both)" "other"
	same "$(<moved)" "name"
	cd "$work"
	unplug
}

# A load on a file of its own, ended after some hundred writes.
short_load() {
	local writer start
	start=$(stat -c %s seen.log)
	"$load" write seen.raw seen.log 1M "$1" cached &
	writer=$!
	has_grown() { (($(stat -c %s seen.log) > start + 20000)); }
	wait_for 20 has_grown
	kill -TERM "$writer"
	wait "$writer" || true
}

# after_a_change DD_ARGUMENT...: the check refuses the file as it would be then.
after_a_change() {
	cp seen.raw is.raw
	cp seen.log is.log
	dd "$@" of=seen.raw conv=notrunc status=none
	refused "is owed" "$load" check seen.raw seen.log 1M
	mv is.raw seen.raw
	mv is.log seen.log
}

a_lost_write_would_be_noticed() {
	cd "$work"
	: >seen.log
	short_load 1
	"$load" check seen.raw seen.log 1M
	cp seen.raw old.raw
	short_load 2
	after_a_change if=/dev/zero bs=512 count=600
	after_a_change if=old.raw bs=512 count=600
	# A sector of another place, and one of another disk.
	after_a_change if=seen.raw bs=512 skip=9 seek=11 count=400
	cp seen.raw other.raw
	cp seen.log other.log
	refused "is owed" "$load" check other.raw other.log 1M
	# Since then nothing was synced, but what is older than something that is there has to be there.
	python3 - <<'END'
data = open("seen.log", "rb").read()
records = [data[i : i + 32] for i in range(0, len(data), 32)]
first = [i for i, r in enumerate(records) if r[0] == 7][:2]
kept = [r for i, r in enumerate(records) if r[0] != 7 or i in first]
open("seen.log", "wb").write(b"".join(kept))
END
	after_a_change if=old.raw bs=512 count=600
	"$load" check seen.raw seen.log 1M
}

# Right behind its creation, by a cut that keeps nothing else.
a_pool_that_was_created_is_there() {
	rm -rf "$under"
	mkdir "$under"
	power_on
	"$vpool" create "$pool"
	echo "cut 11" >"$control"
	unplug
	power_on
	start_daemon
	"$vpool" umount "$mnt"
	wait "$daemon"
	unplug
}

test_it a_lost_write_would_be_noticed
test_it a_cut_may_take_all_that_was_not_synced
test_it a_cut_may_take_nothing
test_it a_pool_that_was_created_is_there
declare -A before
while ((cuts_done < cuts)); do
	before=()
	if ! new_pool >"$work/out" 2>&1; then
		lost "a new pool does not mount"
	fi
	for ((until = cuts_done + cuts_a_pool; cuts_done < until && cuts_done < cuts; )); do
		cut_round >"$work/out" 2>&1 || lost "does not mount"
		all_that_was_synced_is_there >"$work/out" 2>&1 || lost "lost something"
		passed=$((passed + 1))
	done
	close_pool >"$work/out" 2>&1 || lost "left a pool that is not right"
	passed=$((passed + 1))
	tail -n 1 "$work/out"
done
if ((sweep > 0)); then
	before=()
	new_pool >"$work/out" 2>&1 || lost "a new pool does not mount"
	every_step_of_recovery "$sweep" >"$work/out" 2>&1 || lost "lost something in recovery"
	close_pool >>"$work/out" 2>&1 || lost "left a pool that is not right"
	passed=$((passed + 1))
	grep "changes at most" "$work/out"
fi
ended
