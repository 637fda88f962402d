#!/usr/bin/env bash
# A store of the network that misbehaves, as seen from a mount: OpenStack Swift, by s3: and by swift:,
# behind a proxy that delays for seconds, fails a tenth of the requests, cuts bodies, loses answers,
# resets, asks for patience, and then is away for longer than the dirty limit lasts. Meanwhile a writer
# knows what it wrote. VPOOL_LONG makes all of it longer, VPOOL_SEED repeats what was drawn.
# shellcheck disable=SC2016,SC2119,SC2317 # tests are called by name
[[ -n ${VPOOL_TEST_S3_URL:-} ]] || exec "$(dirname "$0")/../peers/run_with_swift" "$0" "$@"
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"

faultproxy=$(find_program tool_faultproxy)
seed=${VPOOL_SEED:-$((RANDOM * 32768 + RANDOM))}
disk_mib=16
requests=28 # that came in the chaos, at least, and of them
spoilt=3
((${VPOOL_LONG:-0})) && disk_mib=128 requests=2000 spoilt=200
writer=0
places=0

# ---- the store, behind the proxy ---------------------------------------------------------------
proxy=0
proxy_ready() { grep -q '^ready' "$work/proxy"; }
start_proxy() {
	"$faultproxy" --control "$work/fault" --seed "$seed" "${VPOOL_TEST_SWIFT_PROXY##*:}" \
		>"$work/proxy" &
	proxy=$!
	wait_for 20 proxy_ready
}
stop_proxy() {
	((proxy)) || return 0
	kill "$proxy" 2>/dev/null
	wait "$proxy" 2>/dev/null
	proxy=0
}
trap 'stop_proxy; cleanup' EXIT
# count_of KEY: what the proxy counted
count_of() { tell counts | grep -o "$1=[0-9]*" | cut -d = -f 2; }
tell() { "$faultproxy" --tell "$work/fault" "$@"; }

# place_of KIND: the URL of a name space of its own, by way of the proxy
place_of() {
	local whole=$VPOOL_TEST_S3_URL port
	[[ $1 == swift ]] && whole=$VPOOL_TEST_SWIFT_URL
	port=$(sed -n 's/^ready //p' "$work/proxy")
	whole=${whole/"${VPOOL_TEST_SWIFT_PROXY#http://}"/127.0.0.1:$port}
	places=$((places + 1))
	echo "${whole%%\?*}/chaos-$1-$$-$places?${whole#*\?}"
}

# ---- a writer that knows what it wrote ---------------------------------------------------------
# start_writer: overwrites and reads back blocks of random sizes at random places of disk.raw until
# "$work/stop" is there, syncs now and then; tells in "$work/written" how many bytes it wrote, and in the
# end in "$work/hash" what the disk must hold.
start_writer() {
	rm -f "$work/stop" "$work/hash"
	python3 - "$mnt/disk.raw" "$disk_mib" "$seed" "$work" <<-'END' &
		import hashlib, os, random, sys
		path, size, seed, work = sys.argv[1], int(sys.argv[2]) << 20, int(sys.argv[3]), sys.argv[4]
		rng = random.Random(seed)
		model = bytearray(size)
		fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
		os.ftruncate(fd, size)
		count = written = 0
		with open(work + "/written", "w") as progress:
		    while not os.path.exists(work + "/stop"):
		        length = rng.choice((4096, 65536, 65536, 262144, 262144, rng.randrange(1, 262144)))
		        at = rng.randrange(0, size - length + 1)
		        if rng.random() < 0.8:
		            at -= at % 4096
		        data = rng.randbytes(length)
		        assert os.pwrite(fd, data, at) == length
		        model[at:at + length] = data
		        count, written = count + 1, written + length
		        progress.seek(0)
		        progress.write("%d\n" % written)
		        progress.flush()
		        if count % 16 == 0:
		            at = rng.randrange(0, size - 65536)
		            assert os.pread(fd, 65536, at) == model[at:at + 65536], "at %d" % at
		        if count % 200 == 0:
		            os.fsync(fd)
		os.fsync(fd)
		os.close(fd)
		with open(work + "/hash", "w") as f:
		    f.write(hashlib.sha256(model).hexdigest() + "\n")
	END
	writer=$!
}

written() { cat "$work/written" 2>/dev/null || echo 0; }
# The writer lives, and nothing that it does ends: for a second.
is_held_up() {
	local before
	before=$(written)
	sleep 1
	kill -0 "$writer" && (($(written) == before && before > 0))
}
writer_ends() {
	wait_for 60 is_gone "$writer" || {
		echo "the writer does not end: $("$vpool" status "$mnt")"
		return 1
	}
	wait "$writer" || {
		echo "the writer met an error"
		return 1
	}
}
is_what_was_written() { same "$(hash_of "$mnt/disk.raw")" "$(cat "$work/hash")" "hash of the disk"; }

state_is() { [[ $(status_of "$mnt" 'd["state"]') == "$1" ]]; }
is_normal() { same "$(status_of "$mnt" '(d["state"], d["backend"]["state"], d["dirty_bytes"])')" \
	"('ok', 'ok', 0)" >/dev/null; }
is_clean() { (($(status_of "$mnt" 'd["dirty_bytes"]') == 0)) && state_is ok; }

saw_enough() { (($(count_of requests) >= requests && $(count_of spoilt) >= spoilt)); }

# ---- the test ----------------------------------------------------------------------------------
# A share of a million each: a tenth of 503, a hundredth of cut bodies, and what else there is.
faults=(error=100000 cut=10000 lose=30000 reset=10000 busy=10000 retry_after_s=1 delay_ms_max=1200)

a_pool_outlives_the_chaos_of() {
	local start_ms
	cd "$work"
	remove_rings "$work" -xdev
	rm -rf "$pool"
	"$vpool" create "$pool" --sco-size 1M --backend "$(place_of "$1")" >/dev/null
	printf '%s\n' '[cache]' 'dirty_limit = 16M' '[backend]' 'upload_interval = 2s' \
		'uploads_max = 8' >>"$pool/vpool.conf"
	"$vpool" mount "$pool" "$mnt"
	echo text >"$mnt/small"
	"$vpool" sync "$mnt"
	tell forget
	tell set "${faults[@]}"
	start_writer
	wait_for $((requests * 5)) saw_enough || {
		echo "$(tell counts), $(written) bytes written: $("$vpool" status "$mnt")"
		return 1
	}
	echo "$(written) bytes written, $(tell counts)"

	# Nothing answers, until writers wait, and for a while longer.
	tell set down=1
	wait_for 180 state_is blocked || {
		echo "not blocked: $("$vpool" status "$mnt")"
		return 1
	}
	wait_for 60 is_held_up || {
		echo "nobody is held up: $("$vpool" status "$mnt")"
		return 1
	}
	same "$(cat "$mnt/small")" text
	exits 0 "$vpool" status "$mnt"
	says backend
	# What was overwritten meanwhile makes room for a few more.
	wait_for 60 is_held_up || {
		echo "nobody is held up any more: $("$vpool" status "$mnt")"
		return 1
	}

	tell clear
	start_ms=$(now_ms)
	touch "$work/stop"
	writer_ends
	wait_for 60 is_clean || {
		echo "not normal after $(($(now_ms) - start_ms)) ms: $("$vpool" status "$mnt")"
		return 1
	}
	wait_for 10 is_normal
	echo "normal after $(($(now_ms) - start_ms)) ms"
	(($(now_ms) - start_ms < 60000))
	is_what_was_written
	same "$(grep -c ' error ' "$pool/vpool.log")" 0 "errors in the log"
	"$vpool" umount "$mnt"
	exits 0 "$vpool" check --data "$pool"
	says "0 errors, 0 warnings"
	"$vpool" mount "$pool" "$mnt"
	is_what_was_written
	same "$(cat "$mnt/small")" text
	"$vpool" umount "$mnt"
}

echo "VPOOL_SEED=$seed"
start_proxy || {
	echo "the proxy does not start"
	echo "0 passed, 1 failed, 0 skipped"
	exit 1
}
for kind in s3 swift; do
	[[ -n ${1:-} && $kind != "$1" ]] && continue
	eval "${kind}__a_pool_outlives_a_store_that_misbehaves_and_an_outage() { a_pool_outlives_the_chaos_of $kind; }"
	test_it "${kind}__a_pool_outlives_a_store_that_misbehaves_and_an_outage"
	grep -E "bytes written|normal after" "$work/out"
	tell clear
	tidy
done
finish
