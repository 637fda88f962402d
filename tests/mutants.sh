#!/usr/bin/env bash
# Show for each planted bug (volume/mutant.h) which test of the default run finds it, and that the same
# test passes without it. One build holds all of them; VPOOL_MUTANT in the environment chooses.
set -u -o pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
out=${VPOOL_BUILD_DIR:-$root/build}/mutants
header=$root/volume/mutant.h
# Seeds of the default run's simulator: a bug must be found by one of them.
sim_seeds=1000
# Of them, run without any bug before the others.
sim_clean_seeds=100
unit_limit_s=120
sim_limit_s=400
only=()
list=0

# What the power cuts of the e2e suite find as well, each within so many cuts.
powercut_finds=(1 2 11)
powercut_cuts=20
powercut_limit_s=90
powercut_programs=(vpool tool_cutfs tool_fsload tool_fsmount tool_fsprobe tool_ringlook)

# Number, then `sim` (and the first seed, if it is not 1), `steps` or `allocations` and the script, or `unit`, program, test, and its case, if the others take long.
detectors() {
	cat <<'END'
1  sim
2  sim
3  unit volume_test_pool_damage a_flipped_bit_on_flash_is_reported_and_never_served
4  sim
5  sim
6  sim
7  sim
8  sim
9  unit volume_test_pool_late late_batches_of_a_dead_process_do_not_count
10 sim
11 sim
12 sim
13 unit volume_test_pool_roots a_root_comes_behind_all_that_it_names
14 unit volume_test_pool_backend what_died_goes_with_the_root_after_the_one_that_condemns_it
15 sim
16 sim
17 sim
18 sim
19 unit volume_test_pool_moves a_cluster_that_is_overwritten_while_it_is_moved_stays_overwritten
20 unit volume_test_pool_moves damaged_bytes_are_not_moved_under_a_new_checksum
21 sim
22 unit volume_test_pool_roots what_dies_while_a_root_is_put_stays_until_no_root_needs_it
23 unit volume_test_pool_roots what_changes_while_a_root_is_put_is_marked_for_the_next_one
24 unit volume_test_pool_roots a_root_whose_answer_was_lost_stays_whole_until_two_came_after_it
25 sim
26 unit volume_test_cache_evict what_is_held_stays
27 unit volume_test_restore entries_behind_the_root_never_come_back
28 unit volume_test_pool_witness what_was_done_is_not_done_again
29 unit volume_test_pool_witness a_publication_that_was_not_noted_is_found_in_the_log
30 unit volume_test_restore what_comes_back_to_a_stream_does_not_get_what_it_wrote_there_before
31 unit volume_test_pool_backend what_could_not_be_deleted_is_remembered_and_the_others_go
32 steps rollback over younger ones
34 unit volume_test_upload_verify a_damaged_file_is_not_uploaded_and_everything_else_is
35 sim
36 sim
37 sim
38 sim
39 unit volume_test_upload_verify what_a_damaged_stream_has_on_the_backend_is_no_orphan
40 unit volume_test_clean_frozen who_has_read_a_snapshot_goes_on_reading_what_was_moved_from_there
41 unit volume_test_snapshot all_clones_of_a_template_stand_on_its_one_layer
42 unit volume_test_snapshot a_template_does_not_change
43 unit volume_test_merge a_layer_of_many_steps_is_merged_while_calls_wait merge
44 unit volume_test_merge a_layer_of_many_steps_is_merged_while_calls_wait merge
47 unit volume_test_pool_failing what_no_sync_covered_goes_as_soon_as_the_ring_is_written
48 unit volume_test_pool_failing an_index_that_no_row_knows_is_written_again
49 unit volume_test_restore what_was_rolled_back_behind_the_end_of_the_log_takes_new_entries
50 unit volume_test_resolved what_was_moved_since_is_not_found_where_it_was moves
51 unit volume_test_pool_failing a_file_that_came_to_nothing_has_a_number_of_its_own
52 unit volume_test_pool_failing of_two_files_with_a_name_the_row_knows_which_one_counts
53 unit volume_test_pool_failing what_a_recovery_did_not_get_to_remove_is_no_damage
54 unit volume_test_upload_verify a_stream_that_fails_behind_a_snapshot_keeps_the_last_root_that_is_whole
55 allocations snapshot
56 allocations snapshot
57 unit volume_test_pool_late the_header_that_says_so_outlives_its_data
58 unit volume_test_share what_only_a_log_names_stays
59 unit volume_test_share no_root_has_a_map_that_names_what_died
60 unit volume_test_upload_verify a_stream_that_fails_behind_a_snapshot_keeps_the_last_root_that_is_whole
END
}

usage() {
	cat <<'END'
usage: tests/mutants.sh [--only N]... [--list]

  --only N   this planted bug only; may be given again
  --list     print the planted bugs and what finds them

Builds vPool with all planted bugs (-DMUTANT=-1) in $VPOOL_BUILD_DIR/mutants (default: build/mutants).
A test has found a bug if it fails with it and passes without. Bugs that a power cut shows are also
looked for by tests/e2e/powercut.sh, which proves what that can see. The last line counts bugs:
N passed, N failed, N skipped. Exits 0 if all were found.
END
}

die_usage() {
	echo "tests/mutants.sh: $1" >&2
	usage >&2
	exit 2
}

while (($# > 0)); do
	case $1 in
	--only)
		(($# >= 2)) || die_usage "$1 needs a value"
		only+=("$2")
		shift
		;;
	--only=*) only+=("${1#*=}") ;;
	--list) list=1 ;;
	-h | --help)
		usage
		exit 0
		;;
	*) die_usage "unknown argument '$1'" ;;
	esac
	shift
done

now_ms() {
	local us=${EPOCHREALTIME/[.,]/}
	echo $((us / 1000))
}

as_seconds() {
	printf '%d.%d' $(($1 / 1000)) $(($1 % 1000 / 100))
}

passed=0
failed=0
skipped=0
finish() {
	echo "$passed passed, $failed failed, $skipped skipped"
	((failed == 0 && passed > 0))
	exit
}

# ---- the planted bugs --------------------------------------------------------------------------
declare -A name_of kind_of program_of test_of case_of
numbers=()
while read -r name number; do
	numbers+=("$number")
	name_of[$number]=$name
done < <(sed -nE 's/^\s*MUTANT_([A-Z_]+) = ([0-9]+),.*/\L\1\E \2/p' "$header")
while read -r number kind program test case; do
	[[ -n ${name_of[$number]:-} ]] || die_usage "the table has $number, volume/mutant.h has not"
	kind_of[$number]=$kind
	program_of[$number]=$program
	test_of[$number]=$test
	case_of[$number]=$case
done < <(detectors)
((${#only[@]} > 0)) || only=("${numbers[@]}")
targets=()
for number in "${only[@]}"; do
	[[ -n ${name_of[$number]:-} ]] || die_usage "no planted bug '$number' (try --list)"
	case ${kind_of[$number]:-} in
	sim | steps | allocations) targets+=(vpool_sim) ;;
	unit) targets+=("${program_of[$number]}") ;;
	*) kind_of[$number]=none ;;
	esac
done

powercut_numbers=()
for number in "${powercut_finds[@]}"; do
	[[ " ${only[*]} " == *" $number "* ]] && powercut_numbers+=("$number")
done
((${#powercut_numbers[@]} > 0)) && targets+=("${powercut_programs[@]}")

# script_of NUMBER: of `steps` and `allocations`, all behind the kind.
script_of() {
	echo "${program_of[$1]} ${test_of[$1]} ${case_of[$1]}" | sed 's/ *$//'
}

# what_finds NUMBER: for people.
what_finds() {
	case ${kind_of[$1]} in
	sim) echo "$sim_seeds seeds of vpool_sim from ${program_of[$1]:-1} on" ;;
	steps | allocations) echo "vpool_sim --${kind_of[$1]}='$(script_of "$1")'" ;;
	unit) echo "${program_of[$1]}: ${test_of[$1]}" ;;
	none) echo "any test: the table has none" ;;
	esac
}

if ((list)); then
	for number in "${only[@]}"; do
		printf '%2d  %-20s  %s\n' "$number" "${name_of[$number]}" "$(what_finds "$number")"
	done
	for number in "${powercut_numbers[@]}"; do
		printf '%2d  %-20s  %s\n' "$number" "${name_of[$number]}" \
			"powercut.sh, within $powercut_cuts cuts"
	done
	exit 0
fi

# ---- building ----------------------------------------------------------------------------------
mkdir -p "$out/scratch" || exit 1
out=$(cd "$out" && pwd)
mapfile -t targets < <(printf '%s\n' "${targets[@]}" | sort -u)
generator=()
command -v ninja >/dev/null && generator=(-G Ninja)

build() {
	cmake -S "$root" -B "$out/build" "${generator[@]}" -DCMAKE_C_COMPILER=gcc \
		-DCMAKE_BUILD_TYPE=RelWithDebInfo -DMUTANT=-1 -DSANITIZE= -DCOVERAGE=OFF &&
		cmake --build "$out/build" -j "$(nproc)" --target "${targets[@]}"
}

start_ms=$(now_ms)
if ! build >"$out/build.log" 2>&1; then
	tail -n 40 "$out/build.log"
	echo "FAILED: building (all of it in $out/build.log)"
	failed=1
	finish
fi
[[ -z ${VPOOL_BUILD_MS_FILE:-} ]] || echo $(($(now_ms) - start_ms)) >>"$VPOOL_BUILD_MS_FILE"

# ---- running -----------------------------------------------------------------------------------
child=0
trap '((child)) && kill -TERM "$child" 2>/dev/null; exit 130' INT TERM

# run LIMIT_S MUTANT LOG COMMAND...: in the scratch directory, without input.
run() {
	local limit_s=$1 mutant=$2 log=$3 r
	shift 3
	(
		cd "$out/scratch" &&
			VPOOL_MUTANT=$mutant exec timeout --kill-after=5 "$limit_s" "$@"
	) </dev/null >"$log" 2>&1 &
	child=$!
	wait "$child"
	r=$?
	child=0
	return $r
}

# run_unit MUTANT PROGRAM [CASE]: every test's result in $out/PROGRAM.MUTANT.tap. Returns as the program does.
run_unit() {
	local tap=$out/$2.$1.tap
	rm -f "$tap"
	CK_TAP_LOG_FILE_NAME=$tap CK_DEFAULT_TIMEOUT=20 \
		run "$unit_limit_s" "$1" "$out/$2.$1.log" env ${3:+"CK_RUN_CASE=$3"} "$out/build/tests/$2"
}

# tap_has RESULT MUTANT NUMBER: whether the test of this bug came to "ok" or "not ok" (in a loop: once).
tap_has() {
	grep -qE "^$1 [0-9]+ - [^:]*:[^:]*:${test_of[$3]}:" "$out/${program_of[$3]}.$2.tap" 2>/dev/null
}

sim() {
	run "$sim_limit_s" "$1" "$2" "$out/build/tests/vpool_sim" "${@:3}"
}

# find_by_KIND NUMBER: into found. 1: nothing found it; 2: the test fails without the bug, too.
declare -A ran_clean
find_by_unit() {
	local program=${program_of[$1]} r
	if [[ -z ${ran_clean[$program]:-} ]]; then
		run_unit 0 "$program" "${case_of[$1]}"
		ran_clean[$program]=1
	fi
	if tap_has "not ok" 0 "$1" || ! tap_has ok 0 "$1"; then
		return 2
	fi
	run_unit "$1" "$program" "${case_of[$1]}"
	r=$?
	found="$program: ${test_of[$1]}"
	tap_has "not ok" "$1" "$1" && return 0
	# Without a result the program did not get so far.
	((r != 0)) && ! tap_has ok "$1" "$1"
}

find_by_sim() {
	local log=$out/sim.$1.log first=${program_of[$1]:-1} seed
	((sim_clean)) || return 2
	sim "$1" "$log" --fail-fast --first "$first" --seeds "$sim_seeds" && return 1
	seed=$(sed -n 's/^FAILED: seed \([0-9]*\) .*/\1/p' "$log" | sort -n | head -n 1)
	[[ -n $seed ]] || return 1 # stopped for its time: that tells nothing
	sim 0 "$log.clean" --first "$seed" --seeds 1 || return 2
	found="vpool_sim: seed $seed"
}

find_by_steps() {
	local log=$out/steps.$1.log script
	script=--${kind_of[$1]}=$(script_of "$1")
	[[ -n ${ran_clean[$script]:-} ]] || sim 0 "$log.clean" "$script" || return 2
	ran_clean[$script]=1
	sim "$1" "$log" --fail-fast "$script" && return 1
	found="vpool_sim: $(sed -n 's/^FAILED: \(.* step [0-9]*\) .*/\1/p' "$log" | head -n 1)"
	[[ $found != "vpool_sim: " ]]
}

# ---- the run -----------------------------------------------------------------------------------
sim_clean=1
if [[ " ${targets[*]} " == *" vpool_sim "* ]] && ! sim 0 "$out/sim.0.log" --seeds "$sim_clean_seeds"; then
	sim_clean=0
	grep -m 3 '^FAILED' "$out/sim.0.log"
fi

printf '%2s  %-20s  %7s  %s\n' "#" "planted bug" "seconds" "found by"
for number in "${only[@]}"; do
	start_ms=$(now_ms)
	found=
	case ${kind_of[$number]} in
	sim) find_by_sim "$number" ;;
	steps | allocations) find_by_steps "$number" ;;
	unit) find_by_unit "$number" ;;
	none) false ;;
	esac
	case $? in
	0) passed=$((passed + 1)) ;;
	2)
		failed=$((failed + 1))
		found="FAILED: without the bug this fails, too: $(what_finds "$number")"
		;;
	*)
		failed=$((failed + 1))
		found="FAILED: not found by $(what_finds "$number")"
		;;
	esac
	printf '%2d  %-20s  %7s  %s\n' "$number" "${name_of[$number]}" \
		"$(as_seconds $(($(now_ms) - start_ms)))" "$found"
done

# cut MUTANT CUTS: the power-cut harness; its output goes to a log.
cut() {
	VPOOL_BIN_DIR=$out/build VPOOL_CUTS=$2 VPOOL_LONG=0 \
		run "$powercut_limit_s" "$1" "$out/powercut.$1.log" "$root/tests/e2e/powercut.sh"
}

# A loss that it reports, and not just any failure.
for number in "${powercut_numbers[@]}"; do
	start_ms=$(now_ms)
	cut "$number" "$powercut_cuts"
	r=$?
	found=$(sed -n 's/^FAILED: \(cut [0-9]* .* lost something\):$/powercut.sh: \1/p' "$out/powercut.$number.log")
	if ((r == 77)); then
		skipped=$((skipped + 1))
		found="skipped: powercut.sh needs root and /dev/fuse"
	elif ((r == 0)) || [[ -z $found ]]; then
		failed=$((failed + 1))
		found="FAILED: $powercut_cuts cuts of powercut.sh lost nothing (exit $r)"
	else
		passed=$((passed + 1))
	fi
	printf '%2d  %-20s  %7s  %s\n' "$number" "${name_of[$number]}" \
		"$(as_seconds $(($(now_ms) - start_ms)))" "$found"
done
finish
