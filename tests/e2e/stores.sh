#!/usr/bin/env bash
# Pools on the stores of the network: the main job on s3: and on swift: against OpenStack Swift on
# loopback, which is stopped, silent, and left in the middle of uploads.
# shellcheck disable=SC2016,SC2119,SC2317 # tests are called by name
[[ -n ${VPOOL_TEST_S3_URL:-} ]] || exec "$(dirname "$0")/../peers/run_with_swift" "$0" "$@"
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"

kind=s3 # or swift: of the test that runs
places=0

# A name space of its own in the bucket or container of the kind.
new_place() {
	local whole=$VPOOL_TEST_S3_URL
	[[ $kind == swift ]] && whole=$VPOOL_TEST_SWIFT_URL
	places=$((places + 1))
	prefix=$kind-$BASHPID-$places
	url="${whole%%\?*}/$prefix?${whole#*\?}"
}

# mounted [LINE OF vpool.conf]...
mounted() {
	cd "$work"
	remove_rings "$pool"
	rm -rf "$pool"
	new_place
	"$vpool" create "$pool" --sco-size 1M --backend "$url" >/dev/null
	printf '%s\n' "$@" >>"$pool/vpool.conf"
	"$vpool" mount "$pool" "$mnt"
}

# seeded MIB SEED: random bytes that the seed tells again
seeded() { python3 -c 'import random, sys; r = random.Random(int(sys.argv[2]))
for i in range(int(sys.argv[1])): sys.stdout.buffer.write(r.randbytes(1 << 20))' "$1" "$2"; }
# random_disk NAME MIB SEED: written over what was there
random_disk() { seeded "$2" "$3" | dd of="$mnt/$1" bs=1M iflag=fullblock conv=notrunc status=none; }
hash_of_seed() { seeded "$1" "$2" | sha256sum; }
is_disk() { same "$(sha256sum <"$mnt/$1")" "$(hash_of_seed "$2" "$3")" "contents of $1"; }

# Names of objects of this pool, by the store's own protocol.
names_there() {
	local token place=vpool-$kind
	token=$(curl -sS -i -H "X-Auth-User: $ST_USER" -H "X-Auth-Key: $ST_KEY" \
		"$VPOOL_TEST_SWIFT_PROXY/auth/v1.0" | tr -d '\r' | sed -n 's/^X-Auth-Token: //p')
	curl -sS -H "X-Auth-Token: $token" \
		"$VPOOL_TEST_SWIFT_PROXY/v1/AUTH_test/$place?prefix=$prefix/"
}

swift_proxy() { kill "-$1" "$(cut -d ' ' -f 1 "$VPOOL_TEST_SWIFT_DIR/run/proxy")"; }

state_is() { [[ $(status_of "$mnt" 'd["state"]') == "$1" ]]; }

a_pool_lives_on_the_store() {
	mounted
	random_disk a.raw 24 1
	tar -C /usr/share -cf - doc/bash 2>/dev/null | tar -C "$mnt" -xf -
	find "$mnt/doc" -type f -exec sha256sum {} + >"$work/sums"
	"$vpool" sync "$mnt"
	same "$(status_of "$mnt" 'd["dirty_bytes"]')" 0
	(($(names_there | grep -c '/sco/') >= 24))
	names_there | grep -q '/root/'
	random_disk a.raw 8 2
	"$vpool" umount "$mnt"
	exits 0 "$vpool" check --data "$pool"
	says "0 errors, 0 warnings"
	"$vpool" mount "$pool" "$mnt"
	same "$(head -c $((8 << 20)) "$mnt/a.raw" | sha256sum)" "$(hash_of_seed 8 2)"
	sha256sum --quiet -c "$work/sums"
	"$vpool" umount "$mnt"
}

what_is_removed_goes_from_the_store() {
	mounted '[backend]' 'grace_time = 0s'
	random_disk gone.raw 16 3
	"$vpool" sync "$mnt"
	(($(names_there | grep -c '/sco/') >= 16))
	rm "$mnt/gone.raw"
	for _ in 1 2 3 4; do "$vpool" sync "$mnt"; done
	(($(names_there | grep -c '/sco/') < 4))
	"$vpool" umount "$mnt"
}

a_silent_store_holds_nobody_up_and_is_caught_up_with() {
	mounted '[backend]' 'timeout = 2s' 'attempts_max = 1' 'upload_interval = 1s'
	random_disk before.raw 4 4
	"$vpool" sync "$mnt"
	swift_proxy STOP
	random_disk during.raw 12 5
	wait_for 40 state_is degraded
	exits 0 "$vpool" status "$mnt"
	says "does not answer"
	is_disk before.raw 4 4
	is_disk during.raw 12 5
	swift_proxy CONT
	wait_for 60 state_is ok
	"$vpool" sync "$mnt"
	same "$(status_of "$mnt" 'd["dirty_bytes"]')" 0
	"$vpool" umount "$mnt"
	exits 0 "$vpool" check --data "$pool"
}

a_daemon_that_is_killed_while_it_uploads_loses_nothing() {
	local round daemon_pid
	mounted
	for round in 1 2; do
		random_disk "disk$round.raw" 16 "1$round"
		"$vpool" sync "$mnt" >/dev/null 2>&1 &
		# Some are there, not all: in the middle.
		wait_for 30 eval '(($(names_there | grep -c /sco/) > (round - 1) * 16 + 2))'
		daemon_pid=$(daemon_of "$mnt")
		kill -KILL "$daemon_pid"
		wait_for 20 is_gone "$daemon_pid"
		wait || true
		"$vpool" mount "$pool" "$mnt"
		is_disk "disk$round.raw" 16 "1$round"
	done
	"$vpool" sync "$mnt"
	"$vpool" umount "$mnt"
	exits 0 "$vpool" check --data "$pool"
	says "0 errors, 0 warnings"
}

what_is_wrong_is_said_in_one_line_with_a_cure_and_no_secret() {
	local wrong=not-the-secret
	new_place
	cd "$work"
	rm -rf "$pool"
	exits 1 env AWS_SECRET_ACCESS_KEY="$wrong" ST_KEY="$wrong" "$vpool" create "$pool" --backend "$url"
	one_line
	says "check"
	[[ $said != *$wrong* ]]
	exits 1 "$vpool" create "$pool" --backend "${url/vpool-$kind/vpool-nowhere}"
	one_line
	says "check its name"
	exits 1 "$vpool" create "$pool" --backend "${url/127.0.0.1:*([0-9])/127.0.0.1:9}"
	one_line
	says "check host and port"
	exits 0 "$vpool" create "$pool" --backend "$url"
	"$vpool" mount "$pool" "$mnt"
	"$vpool" sync "$mnt"
	"$vpool" umount "$mnt"
	! grep -rF -e "$AWS_SECRET_ACCESS_KEY" "$pool/vpool.conf" "$pool/vpool.log"
}

shopt -s extglob
for kind in s3 swift; do
	for t in a_pool_lives_on_the_store \
		what_is_removed_goes_from_the_store \
		a_silent_store_holds_nobody_up_and_is_caught_up_with \
		a_daemon_that_is_killed_while_it_uploads_loses_nothing \
		what_is_wrong_is_said_in_one_line_with_a_cure_and_no_secret; do
		[[ -n ${1:-} && $t != *"$1"* ]] && continue
		eval "${kind}__$t() { $t; }"
		test_it "${kind}__$t"
		swift_proxy CONT
		tidy
	done
done
finish
