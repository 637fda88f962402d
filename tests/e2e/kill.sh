#!/usr/bin/env bash
# The daemon is killed at random moments under load: what was acknowledged is there afterwards.
# shellcheck disable=SC2012,SC2016,SC2119,SC2317 # tests are called by name; ls is what is tested
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"

rounds=100
[[ ${VPOOL_LONG:-0} == 1 ]] && rounds=200
[[ -n $store ]] && rounds=15 # each reads all from there
rounds=${VPOOL_KILLS:-$rounds}
size=8M
objects=(disk1.raw disk2.raw file1 file2)
loads=()

# Other processes write; they log what is begun and what is acknowledged outside of the mount.
start_load() {
	local name how round=$1
	loads=()
	for name in "${objects[@]}"; do
		how=cached
		[[ $name == *.raw ]] && how=direct
		"$probe" writer "$mnt/$name" "$work/$name.log" "$size" "$((round * 10 + ${#loads[@]}))" \
			"$how" 1000000 &
		loads+=($!)
	done
	mkdir "$mnt/made$round"
	"$probe" maker "$mnt/made$round" "$work/made$round.log" &
	loads+=($!)
}

under_way() {
	local name
	for name in "${objects[@]}"; do
		(($(stat -c %s "$work/$name.log") > ${before[$name]:-0} + 128)) || return 1
	done
	[[ -s $work/made$round.log ]]
}

all_acknowledged_writes_are_there() {
	local name
	for name in "${objects[@]}"; do
		echo "$name:"
		"$probe" verify "$mnt/$name" "$work/$name.log" "$size" || return 1
	done
	"$probe" made "$mnt/made$round" "$work/made$round.log"
}

all_names_that_were_made_are_there() {
	local log
	for log in "$work"/made*.log; do
		log=${log##*/}
		"$probe" made "${log%.log}" "$work/$log" >/dev/null
	done
}

# The proof itself must be able to fail.
a_lost_write_would_be_noticed() {
	"$probe" writer seen.raw "$work/seen.log" 1M 7 direct 50
	"$probe" verify seen.raw "$work/seen.log" 1M
	cp seen.raw keep.raw
	dd if=/dev/zero of=seen.raw bs=512 seek=1000 count=600 conv=notrunc status=none
	refused "want write" "$probe" verify seen.raw "$work/seen.log" 1M
	# A sector of another place, and one of another disk.
	cp keep.raw seen.raw
	dd if=keep.raw of=seen.raw bs=4096 skip=3 seek=7 count=1 conv=notrunc status=none
	refused "want write" "$probe" verify seen.raw "$work/seen.log" 1M
	cp "$work/seen.log" "$work/keep.log"
	refused "want write" "$probe" verify keep.raw "$work/keep.log" 1M
	rm seen.raw keep.raw "$work/seen.log" "$work/keep.log"
}

acked=0
rounds_ring=0
rounds_flight=0
entries_sum=0
flight_sum=0

# Between the kill and the next mount: what the ring holds, and what nobody was told.
look_at_the_dead() {
	local frames entries name n flight=0
	read -r frames entries < <("$ringlook" "$pool")
	for name in "${objects[@]}"; do
		n=$("$probe" in-flight "$work/$name.log")
		flight=$((flight + n))
	done
	((${frames:-0} > 0 && ${entries:-0} > 0)) && rounds_ring=$((rounds_ring + 1))
	((flight > 0)) && rounds_flight=$((rounds_flight + 1))
	entries_sum=$((entries_sum + ${entries:-0}))
	flight_sum=$((flight_sum + flight))
}

declare -A before
kill_round() {
	local l name
	for name in "${objects[@]}"; do
		before[$name]=$(stat -c %s "$work/$name.log" 2>/dev/null || echo 0)
	done
	start_load "$round"
	wait_for 20 under_way || {
		echo "the load does not start"
		return 1
	}
	# Mostly soon, so that there are many rounds; now and then after the flusher was at work.
	case $((RANDOM % 10)) in
	0) sleep "1.$((RANDOM % 10))" ;;
	[1-3]) sleep "0.$((RANDOM % 5))$((RANDOM % 10))" ;;
	*) sleep "0.0$((RANDOM % 10))" ;;
	esac
	kill -KILL "$daemon"
	wait "$daemon" 2>/dev/null
	daemon=0
	for l in "${loads[@]}"; do
		wait "$l" || echo "load $l failed"
	done
	for name in "${objects[@]}"; do
		acked=$((acked + ($(stat -c %s "$work/$name.log") - ${before[$name]}) / 64))
	done
	look_at_the_dead
	# The dead mount is cleared by the next one.
	mount_pool ring=16M || return 1
	if ! all_acknowledged_writes_are_there >"$work/out" 2>&1; then
		failed=$((failed + 1))
		echo "FAILED: round $round:"
		tail -n 20 "$work/out" | sed 's/^/    /'
	else
		passed=$((passed + 1))
	fi
}

mount_pool ring=16M || exit 1
test_it a_lost_write_would_be_noticed
for ((round = 1; round <= rounds; round++)); do
	kill_round || {
		failed=$((failed + 1))
		echo "FAILED: round $round ended early"
		tail -n 5 "$log"
		finish
	}
done
test_it all_names_that_were_made_are_there
echo "$rounds rounds, $acked writes were acknowledged, $(($(cat "$work"/made*.log | wc -c) / 8)) files made"
echo "in $rounds_ring rounds the ring was not empty ($entries_sum entries)," \
	"in $rounds_flight writes were in flight ($flight_sum)"
# Writers that a store slows down leave less in the ring.
at_stake=9
[[ -n $store ]] && at_stake=7
enough_was_at_stake() { ((rounds_ring * 10 >= rounds * at_stake && rounds_flight * 10 >= rounds * at_stake)); }
test_it enough_was_at_stake
# An independent reader of all formats, on what so many deaths left behind; what was put by those who
# died before a root named it goes with the first roots of another mount.
the_walker_finds_the_pool_sound() {
	configure_pool '[backend]' 'grace_time = 0ns'
	"$vpool" mount "$pool" "$mnt"
	two_roots
	"$vpool" umount "$mnt"
	exits 0 walk_pool
	[[ -n $store ]] || says "unswept 0"
}
umount_pool || failed=$((failed + 1))
test_with python3 the_walker_finds_the_pool_sound
finish
