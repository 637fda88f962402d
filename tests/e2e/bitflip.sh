#!/usr/bin/env bash
# One bit, anywhere in what a pool keeps: no read gives wrong bytes, and check tells what is lost. The
# engine alone, no mount; 10,000 flips with tests/run --long. VPOOL_SEED=N takes other ones.
# shellcheck disable=SC2317 # tests are called by name
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"

bitflip=$(find_program tool_bitflip)
seed=${VPOOL_SEED:-1}
rounds=60
((${VPOOL_LONG:-0})) && rounds=5000

# Files in memory: what a flip does is the same, and no round waits for a disk.
flips=$work/flips
mkdir "$flips"
mount -t tmpfs -o size=1G,mode=700 tmpfs "$flips"

no_flipped_bit_makes_wrong_bytes_and_check_lists_what_is_lost() {
	local n r=0 pids=()
	cd "$work"
	for n in 1 2; do
		mkdir "$flips/$n"
		"$bitflip" --dir "$flips/$n" --rounds "$rounds" --seed "$((seed * 2 + n))" \
			>"$work/flips.$n" 2>&1 &
		pids+=($!)
	done
	for n in 1 2; do
		wait "${pids[n - 1]}" || r=1
		grep -vE '^[0-9T:.-]+Z (error|warning)' "$work/flips.$n"
	done
	same "$(grep -c '^[0-9]* flips: .* 0 wrong$' "$work/flips.1" "$work/flips.2")" \
		"$work/flips.1:1"$'\n'"$work/flips.2:1"
	return "$r"
}

test_it no_flipped_bit_makes_wrong_bytes_and_check_lists_what_is_lost
umount "$flips"
finish
