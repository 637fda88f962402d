#!/usr/bin/env bash
# Every benchmark runs, briefly, and finds on the disk what was acknowledged. Says nothing of speed.
set -uo pipefail

bin=${VPOOL_BIN_DIR:?}/tests
work=$(mktemp -d "${VPOOL_BUILD_DIR:-.}/bench-smoke.XXXXXX")
trap 'rm -rf "$work"' EXIT
passed=0 failed=0 skipped=0

# check NAME PATTERN COMMAND...: it succeeds and prints the pattern.
check() {
	local name=$1 pattern=$2

	shift 2
	if "$@" >"$work/out" 2>"$work/log" && grep -Eq "$pattern" "$work/out"; then
		passed=$((passed + 1))
		echo "passed: $name"
	else
		failed=$((failed + 1))
		echo "FAILED: $name: $*"
		cat "$work/out" "$work/log"
	fi
	rm -rf "$work/pool"
}

engine=("$bin/bench_engine" --dir "$work/pool" --disk 64M --seconds 0.5 --json)

for mode in randwrite4k write1m sync4k randread4k read1m; do
	check "$mode" "\"mode\":\"$mode\",\"iops\":[1-9]" "${engine[@]}" "$mode"
done
check "requests in flight" '"iops":[1-9]' "${engine[@]}" --threads 2 --inflight 64 randwrite4k
check "a ring that is too small for what is in flight" '"iops":[1-9]' \
	"${engine[@]}" --ring 4M --threads 2 --inflight 64 randwrite4k
check "over a disk written before" '"iops":[1-9]' "${engine[@]}" --prefill randwrite4k
check "killed and opened again" '"mode":"recovery","log_mb":268' \
	"${engine[@]}" --bytes 256M --seconds 0 recovery

for pattern in random sequential; do
	check "a $pattern map of 4 GiB is built" 'clusters in' \
		"$bin/tool_mapbuild" --dir "$work/$pattern" --size 4G --pattern "$pattern"
	check "and is read and written" '"mode":"rss".*"within":true' "$bin/bench_engine" \
		--dir "$work/$pattern" --metadata-cache 64M --seconds 1 --json bigmap
done

if command -v fio >/dev/null; then
	check "the comparison with fio" '^sync4k ' "$(dirname "$0")/engine_vs_fio" --runs 1 \
		--seconds 1 --size 64M --dir "$work" --bench "$bin/bench_engine"
else
	skipped=$((skipped + 1))
	echo "skipped: fio is missing"
fi

echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
