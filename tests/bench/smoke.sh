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
check "killed and opened again" '"mode":"recovery","log_mb":134' \
	"${engine[@]}" --disk 1G --prefill --bytes 128M --seconds 0 recovery
check "opened again after a power cut" '"mode":"recovery".*"unsynced_lost":[1-9]' \
	"${engine[@]}" --disk 1G --prefill --bytes 128M --seconds 0 --power-cut recovery

check "overwritten while snapshots rotate" '"mode":"churn","round":4' \
	"${engine[@]}" --rounds 4 --keep-snapshots 2 churn
check "with and without snapshots" '"what":"reads of cold pages, many snapshots"' \
	"${engine[@]}" --rounds 1 --keep-snapshots 20 snapshots

for pattern in random sequential; do
	check "a $pattern map of 4 GiB is built" 'clusters in' \
		"$bin/tool_mapbuild" --dir "$work/$pattern" --size 4G --pattern "$pattern"
	check "and is read and written" '"mode":"rss".*"within":true' "$bin/bench_engine" \
		--dir "$work/$pattern" --metadata-cache 64M --seconds 1 --json bigmap
	check "and snapshots of it are made" '"mode":"snapcalls","round":2' "$bin/bench_engine" \
		--dir "$work/$pattern" --disk 64T --rounds 2 --json snapcalls
done

# figures ARGS...: tests/bench/run, whose exit code 3 speaks of speed.
figures() {
	local code=0
	"$(dirname "$0")/run" --no-wait --runs 1 --seconds 0.3 --size 64M --read-size 64M \
		--dir "$work" --json - "$@" || code=$?
	((code == 0 || code == 3))
}

# What was written through the pass-through is in the file below: whole requests, and small ones.
pass_through() {
	local server code=0
	mkdir "$work/mnt"
	truncate -s 8M "$work/below"
	dd if=/dev/urandom of="$work/data" bs=1M count=8 status=none
	"$bin/bench_passfuse" --threads 2 "$work/below" "$work/mnt" &
	server=$!
	for ((i = 0; i < 1500; i++)); do
		[[ ! -e $work/mnt/disk.raw ]] || break
		sleep 0.02
	done
	{
		dd if="$work/data" of="$work/mnt/disk.raw" bs=1M count=4 oflag=direct status=none &&
			dd if="$work/data" of="$work/mnt/disk.raw" bs=4k skip=1024 seek=1024 \
				oflag=direct conv=fsync,notrunc status=none &&
			cmp "$work/data" "$work/mnt/disk.raw"
	} || code=1
	kill "$server"
	wait "$server" || code=1
	cmp "$work/data" "$work/below" && ((code == 0)) && echo same
}

# skip WHAT: it counts.
skip() {
	skipped=$((skipped + 1))
	echo "skipped: $1"
}

if command -v fio >/dev/null; then
	check "the comparison with fio" '^sync4k ' "$(dirname "$0")/engine_vs_fio" --runs 1 \
		--seconds 1 --size 64M --dir "$work" --bench "$bin/bench_engine"
else
	skip "fio is missing"
fi

if [[ $(id -u) != 0 || ! -e /dev/fuse ]]; then
	skip "mounts need root and /dev/fuse"
elif ! command -v fio >/dev/null || ! command -v qemu-storage-daemon >/dev/null; then
	skip "fio or qemu-storage-daemon is missing"
else
	check "the pass-through passes" '^same$' pass_through
	check "a mount among its peers" '"verified": true' figures --only randwrite4k,randread4k
	check "several disks, and copies" '"verified": true' figures --only randwrite4k8,copy_in \
		--peers V,b
	check "with syncs, and 1 MiB" '"verified": true' figures --quick --only sync4k,read1m
	check "memory of a daemon with a map" '"reached": true' figures --map-size 1G rss
	check "random overwriting second by second" '"slow_seconds": ' figures --seconds 4 steady
	check "the time of a mount" '"files": 200' figures --files 200 mount
fi

echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
