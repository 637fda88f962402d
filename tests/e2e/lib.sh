# Sourced by the scripts of this directory: a pool on a mount of its own, tests that are functions,
# and an end that leaves nothing behind. Programs come from $VPOOL_BIN_DIR (a build directory).
#
#	test_it NAME_OF_FUNCTION	runs it in a subshell under `set -e`; the name is the sentence
#	skip_it NAME "what is missing"
#	finish				the counting line, and the exit code
#
# VPOOL_E2E_STORE=swift (or s3): pools made by mount_pool and create_pool keep their data on OpenStack
# Swift on loopback, and have so little flash that they read it back from there: $store_flash, which a
# script sets to about a tenth of what it writes before it comes here, in $flash_dir.
# shellcheck shell=bash disable=SC2034,SC2317 # what is unused here is for those who source it
set -u -o pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
bin=${VPOOL_BIN_DIR:-$root/build/gcc}
store=${VPOOL_E2E_STORE:-}
if [[ -n $store && -z ${VPOOL_TEST_SWIFT_URL:-} ]]; then
	exec "$root/tests/peers/run_with_swift" "$0" "$@"
fi
find_program() {
	local p
	for p in "$bin/$1" "$bin/tests/$1"; do
		[[ -x $p ]] && echo "$p" && return
	done
	echo "$1"
}
fsmount=$(find_program tool_fsmount)
probe=$(find_program tool_fsprobe)
ringlook=$(find_program tool_ringlook)
vpool=$(find_program vpool)
for program in "$vpool" "$fsmount" "$probe" "$ringlook"; do
	if [[ ! -x $program ]]; then
		echo "'$program' is not built: set VPOOL_BIN_DIR, or run tests/run --only=e2e"
		echo "0 passed, 1 failed, 0 skipped"
		exit 1
	fi
done

# In a namespace of our own others' mounts are copies, which would keep their daemons, and loop devices with
# their files, when they are unmounted outside.
if [[ -n ${POWERCUT_ALONE:-}${NFS_ALONE:-}${VPOOL_HARDENING_INSIDE:-} ]]; then
	while read -r _ dir _; do
		dir=$(printf '%b' "$dir")
		[[ $dir == "${TMPDIR:-/tmp}"/vpool-* ]] && umount -l "$dir"
	done < <(tac /proc/self/mounts)
fi

work=$(mktemp -d "${TMPDIR:-/tmp}/vpool-e2e.XXXXXX")
pool=$work/pool
mnt=$work/mnt
log=$work/log
mkdir "$mnt"
daemon=0
passed=0
failed=0
skipped=0

now_ms() { echo $((${EPOCHREALTIME/[.,]/} / 1000)); }

# wait_for SECONDS COMMAND...: until it succeeds.
wait_for() {
	local until_ms=$(($(now_ms) + $1 * 1000))
	shift
	until "$@" 2>/dev/null; do
		(($(now_ms) < until_ms)) || return 1
		sleep 0.02
	done
}

is_ready() { grep -q '^ready' "$work/ready"; }
# A worker dies with its holder, a moment later.
is_gone() {
	! kill -0 "$1" && ! grep -qsazE -- "--worker=$1\$" /proc/[0-9]*/cmdline
}

# Every pool has a place of its own on the store, and SCOs so small that its flash holds some.
store_flash=${store_flash:-16M}
flash_dir=${flash_dir:-$work/flash}
new_place() {
	local whole=$VPOOL_TEST_S3_URL
	[[ $store == swift ]] && whole=$VPOOL_TEST_SWIFT_URL
	place="${whole%%\?*}/${work##*.}-$SRANDOM?${whole#*\?}"
}

# objects_there PREFIX: what the store has of the last place, by its own protocol: name and time of the put in
# ns, by name. A bucket of s3api is a container.
objects_there() {
	local token prefix=${place%%\?*}
	prefix=${prefix##*/}/$1
	token=$(curl -sS -i -H "X-Auth-User: $ST_USER" -H "X-Auth-Key: $ST_KEY" \
		"$VPOOL_TEST_SWIFT_PROXY/auth/v1.0" | tr -d '\r' | sed -n 's/^X-Auth-Token: //p')
	curl -sS -H "X-Auth-Token: $token" \
		"$VPOOL_TEST_SWIFT_PROXY/v1/AUTH_test/vpool-$store?prefix=$prefix&format=json" |
		python3 -c 'import datetime, json, sys
for o in json.load(sys.stdin):
    when = datetime.datetime.fromisoformat(o["last_modified"] + "+00:00")
    print(o["name"].rsplit("/", 1)[1], int(when.timestamp()) * 10**9 + when.microsecond * 1000)'
}

# create_pool [OPTION]...
create_pool() {
	local options=()
	if [[ -n $store ]]; then
		new_place
		rm -rf "$flash_dir"
		options=(--sco-size 1M --backend "$place" --cache "$flash_dir:$store_flash")
	fi
	"$vpool" create "$pool" "${options[@]}" "$@" >/dev/null
}

# mount_pool [SETTING=VALUE]...
mount_pool() {
	local settings=()
	if [[ -n $store ]]; then
		[[ -e $pool/meta ]] || new_place
		settings=("sco=1M" "cache=$store_flash" "backend=$place")
	fi
	: >"$work/ready"
	"$fsmount" "$pool" "$mnt" check=1 "${settings[@]}" "$@" >"$work/ready" 2>>"$log" &
	daemon=$!
	if ! wait_for 30 is_ready; then
		echo "the mount does not answer:"
		tail -n 5 "$log"
		return 1
	fi
}

# configure_pool LINE...: vpool.conf of a pool that mount_pool made, for the command.
configure_pool() {
	printf '%s\n' "$@" >"$pool/vpool.conf"
	[[ -z $store ]] || printf '%s\n' '[pool]' 'sco_size = 1M' '[backend]' "url = $place" '[cache]' \
		"dir = $pool/cache:$store_flash" >>"$pool/vpool.conf"
}

# The closed pool is whole, by an independent reader of all formats (tests/walker); that reads no store of the
# network, so there by the command, which reads all that the store has.
walk_pool() {
	if [[ -z $store ]]; then
		PYTHONDONTWRITEBYTECODE=1 python3 "$root/tests/walker/walk.py" "$pool"
	else
		"$vpool" check --data "$pool"
	fi
}

# Unmount; the daemon must end by itself and find nothing wrong with the names.
umount_pool() {
	local r
	umount "$mnt" || return 1
	wait "$daemon"
	r=$?
	daemon=0
	((r == 0)) || tail -n 5 "$log"
	return $r
}

remount_pool() { umount_pool && mount_pool "$@"; }

# Daemons of ours, and no others: their command line names the directory of this very run.
own_daemons() {
	local p exe
	for p in /proc/[0-9]*; do
		exe=$(readlink "$p/exe" 2>/dev/null) || continue
		[[ $exe == */vpool || $exe == */vpool_faulty || $exe == */tool_fsmount ]] &&
			tr '\0' '\n' 2>/dev/null <"$p/cmdline" | grep -qF "$work/" && echo "${p#/proc/}"
	done
	return 0
}

# Mounts of this run, the newest first; /proc/mounts writes blanks and such in octal.
own_mounts() {
	local dir
	while read -r _ dir _; do
		dir=$(printf '%b' "$dir")
		[[ $dir == "$work"/* ]] && printf '%s\0' "$dir"
	done < <(tac /proc/mounts)
	return 0
}

# ring_of POOL: where its ring is.
ring_of() { tr -d '\0' <"$1/ring.id" | grep -aoE '/[^[:cntrl:]]*/vpool-[0-9a-f]{32}-[0-9a-f]+-[0-9a-f]+-[0-9a-f]{16}'; }

# A daemon that was killed leaves its ring for the next mount; if there is none, it would stay.
remove_rings() {
	local id
	while IFS= read -r -d '' id; do
		rm -f "$(ring_of "${id%/ring.id}")"
	done < <(find "$@" -name ring.id -print0 2>/dev/null)
	return 0
}

# Unmount what is mounted, the newest first, and end the daemons.
tidy() {
	local dir dev pid
	cd /
	remove_rings "$work" -xdev
	[[ -d ${disk:-} ]] && remove_rings "$disk"
	while IFS= read -r -d '' dir; do
		# Its daemon may have been about to do it.
		timeout 20 umount "$dir" 2>/dev/null || umount -l "$dir" 2>/dev/null || true
	done < <(own_mounts)
	for pid in $(own_daemons); do
		wait_for 10 is_gone "$pid" || kill -KILL "$pid" 2>/dev/null || true
	done
	while read -r dev; do
		[[ -n $dev ]] && losetup -d "$dev" 2>/dev/null
	done < <(losetup -l -n -O NAME,BACK-FILE 2>/dev/null | grep -F "$work/" | cut -d ' ' -f 1)
	return 0
}

cleanup() {
	if ((daemon)); then
		kill -TERM "$daemon" 2>/dev/null
		wait_for 40 is_gone "$daemon" || kill -KILL "$daemon" 2>/dev/null
		wait "$daemon" 2>/dev/null
	fi
	tidy
	remove_rings "$work"
	rm -rf "$work"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

test_it() {
	local r start_ms
	start_ms=$(now_ms)
	(
		set -e
		cd "$mnt" || exit 1
		"$1"
	) >"$work/out" 2>&1
	r=$?
	if ((r == 0)); then
		passed=$((passed + 1))
		echo "ok: ${1//_/ } ($(($(now_ms) - start_ms)) ms)"
	else
		failed=$((failed + 1))
		echo "FAILED: ${1//_/ } (exit $r)"
		tail -n 20 "$work/out" | sed 's/^/    /'
	fi
}

skip_it() {
	skipped=$((skipped + 1))
	echo "skipped: ${1//_/ }: $2 is missing"
}

# test_with PROGRAM FUNCTION
test_with() {
	if command -v "$1" >/dev/null; then
		test_it "$2"
	else
		skip_it "$2" "$1"
	fi
}

# same A B [WHAT]: equal texts
same() {
	[[ $1 == "$2" ]] || {
		echo "${3:-values differ}: '$1' is not '$2'"
		return 1
	}
}

# refused ERRNO COMMAND...: it must fail and name that error.
refused() {
	local want=$1 said
	shift
	if said=$("$@" 2>&1); then
		echo "not refused: $*"
		return 1
	fi
	[[ $said == *"$want"* ]] || {
		echo "refused, but not with '$want': $said"
		return 1
	}
}

# exits CODE COMMAND...: its exit code, with the output of both streams in $said
exits() {
	local want=$1 got=0
	shift
	said=$("$@" 2>&1) || got=$?
	[[ $got == "$want" ]] || {
		echo "exit code $got, not $want: $*: $said"
		return 1
	}
}

# says TEXT: what exits() kept has it
says() {
	[[ $said == *"$1"* ]] || {
		echo "'$1' is not said: $said"
		return 1
	}
}

one_line() { same "$(wc -l <<<"$said")" 1 "lines of '$said'"; }

not_mounted() {
	mountpoint -q "$1" || return 0
	echo "'$1' is still mounted"
	return 1
}

# Two roots of the daemon that runs: behind them nothing is left of those before it that none names.
two_roots() {
	"$vpool" sync "$mnt" >/dev/null || return 1
	rm -f "$mnt/between"
	: >"$mnt/between"
	"$vpool" sync "$mnt" >/dev/null
}

# json DOCUMENT EXPRESSION: of python, d is the document
json() { python3 -c 'import json,sys; d = json.loads(sys.argv[1]); print(eval(sys.argv[2]))' "$1" "$2"; }

# status_of MOUNTPOINT EXPRESSION: of its status
status_of() { json "$("$vpool" status --json "$1")" "$2"; }

# The process that serves $mnt.
worker_of() { status_of "$mnt" 'd["worker_pid"]'; }
# Another worker than that one answers.
worker_is_not() {
	local now
	now=$(timeout 20 "$vpool" status --json "$mnt" | sed -n 's/.*"worker_pid": *\([0-9]*\).*/\1/p')
	[[ -n $now && $now != "$1" ]]
}
# Kill it, and wait until the next one serves.
kill_worker() {
	local dead
	dead=$(worker_of)
	kill -KILL "$dead"
	wait_for 60 worker_is_not "$dead"
}

daemon_of() { status_of "$1" 'd["pid"]'; }

# Bytes that don't repeat: random_file PATH MIB
random_file() {
	dd if=/dev/urandom of="$1" bs=1M count="$2" status=none
}

hash_of() { sha256sum <"$1" | cut -d ' ' -f 1; }

# --- guests: a kernel that packaging/setup unpacks under build/guest, on an emulated processor -------

guest_dir=${VPOOL_GUEST_DIR:-$root/build/guest}
kernel=$(compgen -G "$guest_dir/boot/vmlinuz-*" | head -n 1)
modules=$(compgen -G "$guest_dir/lib/modules/*" | head -n 1)

missing_for_a_guest() {
	local tool
	for tool in qemu-system-x86_64 cpio depmod mke2fs busybox; do
		command -v "$tool" >/dev/null || echo "$tool"
	done
	[[ -n $kernel && -n $modules ]] || echo "a kernel under $guest_dir (packaging/setup)"
}

# make_initrd INIT "MODULE..." TOOL...: the first filesystem of a guest, as $work/initrd.img: a shell, INIT (a file
# of this directory), tools with their libraries under /x, and /modules, which lists what to insert.
make_initrd() {
	local init=$1 wanted=$2 top=$work/initrd tool lib kind module
	shift 2
	mkdir -p "$top"/{bin,proc,sys,dev,mnt,tmp,lib,x}
	cp "$(command -v busybox)" "$top/bin/"
	cp "$root/tests/e2e/$init" "$top/init"
	cp "$root/tests/tsan.supp" "$top/"
	chmod 755 "$top/init"
	: >"$top/modules"
	depmod -b "$guest_dir" "${modules##*/}" || return 1
	for module in $wanted; do
		modprobe -d "$guest_dir" -S "${modules##*/}" --show-depends "$module"
	done | while read -r kind module _; do
		[[ $kind == insmod && ! -e $top/lib/${module##*/} ]] || continue
		cp "$module" "$top/lib/" && echo "/lib/${module##*/}" >>"$top/modules"
	done
	for tool; do
		tool=$(command -v "$tool") || return 1
		cp -L "$tool" "$top/x/"
		ldd "$tool" | grep -o '/[^ ]*' | while read -r lib; do
			mkdir -p "$top${lib%/*}"
			cp -Ln "$lib" "$top$lib"
		done
	done
	(cd "$top" && find . | cpio -o -H newc --quiet | gzip -1) >"$work/initrd.img"
}

# --- kills under load ------------------------------------------------------------------------------

# kill_timed: and wait until the next one serves. How long that took, in ms, goes to $work/pauses.
kill_timed() {
	local dead start_ms
	dead=$(worker_of)
	start_ms=$(now_ms)
	kill -KILL "$dead"
	# A request that came after the death.
	stat -f "$mnt" >/dev/null
	echo $(($(now_ms) - start_ms)) >>"$work/pauses"
	wait_for 60 worker_is_not "$dead"
}

# kill_all PID...: those that are not 0
kill_all() {
	local pid
	for pid; do
		((pid)) && kill -KILL "$pid" 2>/dev/null
	done
}

# Who dies right at its start is not followed at once.
some_time() { sleep "0.$((3 + RANDOM % 6))$((RANDOM % 10))"; }

# pauses_of: what kill_timed noted, as a line
pauses_of() {
	sort -n "$work/pauses" | awk '{ p[NR] = $1 } END {
		print NR " kills; pause in ms: p50 " p[int((NR + 1) / 2)] ", p99 " p[int(NR * 0.99 + 0.5)] ", max " p[NR]
	}'
}

fio_load() {
	local name=$1
	shift
	fio --name="$name" --filename="$mnt/$name" --time_based --runtime=100000 --group_reporting \
		--verify=crc32c --verify_fatal=1 --do_verify=1 --randrepeat=0 "$@" \
		>"$work/fio-$name" 2>&1 &
	loads+=($!)
}

fio_ends_well() {
	local pid=$1 name=$2 r=0
	kill -INT "$pid"
	wait "$pid" || r=$?
	# 128: it was told to end.
	if ((r != 0 && r != 128)) || grep -qE 'verify:|error=|Input/output|err=[^ 0]' "$work/fio-$name"; then
		echo "fio of $name: exit code $r"
		grep -E 'verify|error|err=' "$work/fio-$name" | head
		return 1
	fi
}

# --- NFS-Ganesha on $mnt, in namespaces of its own: rpcbind for clients that ask where NFS is, and the server --

listens() { (: </dev/tcp/127.0.0.1/"$1"); }

start_rpcbind() {
	ip link set lo up && mount -t tmpfs tmpfs /run && mkdir -p /run/rpcbind /run/ganesha || return 1
	mount -t tmpfs tmpfs /dev/shm && cat /proc/sys/kernel/random/boot_id >"$work/boot_id" || return 1
	mount --bind "$work/boot_id" /proc/sys/kernel/random/boot_id || return 1
	rpcbind -w -f 2>>"$log" &
	wait_for 20 listens 111
}

# The shipped file, but for where things are here, and for the time in which clients of version 4 could
# claim what they held before.
make_config() {
	sed -e "s|Path = /srv/vm;|Path = $mnt;|" \
		-e "s|RecoveryBackend = fs;|& RecoveryRoot = \"$work/ganesha\"; Graceless = true;|" \
		"$root/packaging/nfs/ganesha.conf" >"$work/ganesha.conf"
	mkdir "$work/ganesha" "$work/placeholder"
	grep -q "Path = $mnt;" "$work/ganesha.conf" && grep -q Graceless "$work/ganesha.conf"
}

start_server() {
	: >"$work/ganesha.log"
	ganesha.nfsd -F -f "$work/ganesha.conf" -L "$work/ganesha.log" -p "$work/ganesha.pid" -N NIV_EVENT &
	echo $! >"$work/server"
	disown "$!"
	wait_for 60 grep -q 'NFS SERVER INITIALIZED' "$work/ganesha.log" || {
		tail -n 5 "$work/ganesha.log"
		return 1
	}
}

# stop_server SIGNAL
stop_server() {
	kill "-$1" "$(<"$work/server")"
	wait_for 60 is_gone "$(<"$work/server")"
}

end_server() { [[ ! -s $work/server ]] || is_gone "$(<"$work/server")" 2>/dev/null || stop_server KILL; }

# Of the mounts by tool_fsmount: what was written, and what came back from the store.
tell_traffic() {
	grep -ho 'fsmount: .* fetched$' "$log" | awk -v flash="$store_flash" '{ w += $2; f += $5 }
		END { if (w) printf "flash %s: %d MiB written, %d MiB fetched\n", flash, w / 2^20, f / 2^20 }'
}

finish() {
	[[ -z $store || ! -s $log ]] || tell_traffic
	if ((failed > 0)) && [[ -s $log ]]; then
		echo "the daemon said:"
		tail -n 20 "$log" | sed 's/^/    /'
	fi
	echo "$passed passed, $failed failed, $skipped skipped"
	exit $((failed > 0))
}

need_mount() {
	if [[ $(id -u) != 0 || ! -e /dev/fuse ]]; then
		echo "needs root and /dev/fuse"
		echo "0 passed, 0 failed, 1 skipped"
		exit 77
	fi
}
need_mount
