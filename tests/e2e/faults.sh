#!/usr/bin/env bash
# Every call of the program that can fail does, once in each round, while a pool is used: memory, files, threads,
# sockets (tests/faulty). The default run is a sample of VPOOL_FAULT_SECONDS (15); VPOOL_LONG=1 all of them, with
# VPOOL_SEED=N the same ones again.
# shellcheck disable=SC2317 # tests are called by name
# In memory where there is some: what syncs cost is not what is looked for.
if [[ -z ${TMPDIR:-} && -w /dev/shm ]] && (($(df --output=avail -m /dev/shm | tail -n 1) > 2048)); then
	export TMPDIR=/dev/shm
fi
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"

seed=${VPOOL_SEED:-$SRANDOM}
much=(--seconds "${VPOOL_FAULT_SECONDS:-15}")
[[ ${VPOOL_LONG:-0} == 1 ]] && much=(--all)
if [[ ! -x $(find_program vpool_faulty) ]]; then
	echo "'vpool_faulty' is not built"
	echo "0 passed, 1 failed, 0 skipped"
	exit 1
fi

mkdir "$work/faults"
cd "$work" || exit 1
PYTHONDONTWRITEBYTECODE=1 python3 "$root/tests/faulty/faults.py" --bin-dir="$bin" --dir="$work/faults" --seed "$seed" "${much[@]}" \
	"$@" &
driver=$!
trap 'kill -TERM "$driver" 2>/dev/null; wait "$driver"; cleanup' EXIT
wait "$driver"
