#!/usr/bin/env bash
# Workers are killed while fio writes and compares through the mount, a guest lives on a disk of it, and clients of
# NFS use it through Ganesha: all of them notice a pause, no more. VPOOL_KILLS says how many (VPOOL_LONG=1: 1,000).
# Everything runs in namespaces of its own, as in nfs.sh.
# shellcheck disable=SC2119,SC2317 # tests are called by name

if [[ -z ${TORTURE_ALONE:-} ]] && unshare --net --mount --pid --fork true 2>/dev/null; then
	TORTURE_ALONE=1 exec unshare --net --mount --pid --fork --kill-child --mount-proc "$0" "$@"
fi
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"

missing=
for tool in fio ganesha.nfsd rpcbind qemu-img ip; do
	command -v "$tool" >/dev/null || missing=$tool
done
missing=${missing:-$(missing_for_a_guest)}
if [[ -z ${TORTURE_ALONE:-} || -n $store ]]; then
	missing="namespaces of its own, and no store on the network:"
fi
if [[ -n $missing ]]; then
	echo "'$missing' is missing (packaging/setup)"
	echo "0 passed, 0 failed, 1 skipped"
	exit 77
fi

kills=15
[[ ${VPOOL_LONG:-0} == 1 ]] && kills=1000
kills=${VPOOL_KILLS:-$kills}
nfs3=$(find_program tool_nfs3)
export NFS3_EXPORT=/vpool
url=nfs://127.0.0.1$NFS3_EXPORT
loads=()
guest=0

leave() {
	kill_all "${loads[@]}" "$guest"
	end_server
	cleanup
}
trap leave EXIT

# --- the guest ---------------------------------------------------------------------------------------

boot() {
	make_initrd torture_guest_init "virtio_pci virtio_blk ext4" mke2fs e2fsck || return 1
	truncate -s 128M "$mnt/guest.raw"
	mkfifo "$work/keys"
	qemu-system-x86_64 -accel tcg -cpu max -m 256 -smp 1 -nodefaults -no-reboot -display none -serial stdio \
		-kernel "$kernel" -initrd "$work/initrd.img" -append "console=ttyS0 panic=-1 quiet loglevel=3" \
		-drive "if=none,id=d,format=raw,file=$mnt/guest.raw,cache=none,aio=io_uring,werror=report,rerror=report" \
		-device virtio-blk-pci,drive=d <"$work/keys" >"$work/console" 2>&1 &
	guest=$!
	exec 9>"$work/keys"
}

guest_says() { grep -qa "$1" "$work/console"; }

guest_ends_well() {
	local pid=$guest
	echo stop >&9
	wait_for 120 guest_says 'GUEST rounds:' || true
	exec 9>&-
	wait "$pid" || true
	tr -d '\r' <"$work/console" | grep -a GUEST | grep -v 'GUEST round ' | tee "$work/guest"
	grep -q 'GUEST passed' "$work/guest"
}

# --- clients of NFS ----------------------------------------------------------------------------------

# Images come and go until there is a file $work/enough.
images() {
	local n=0
	random_file "$work/image" 4
	until [[ -e $work/enough ]]; do
		n=$((n + 1))
		qemu-img convert -q -f raw -O raw "$work/image" "$url/image$((n % 4)).raw" || return 1
		qemu-img compare -q -f raw -F raw "$work/image" "$url/image$((n % 4)).raw" || return 1
	done
	echo "$n images"
}

start_clients() {
	local i
	for i in 1 2; do
		truncate -s 16M "nfs$i.raw"
		"$nfs3" load "nfs$i.raw" 16M "$i" >"$work/nfs-$i" 2>&1 &
		clients+=($!)
	done
	truncate -s 1M nfs3
	"$nfs3" load nfs3 1M 3 >"$work/nfs-3" 2>&1 &
	clients+=($!)
	images >"$work/nfs-4" 2>&1 &
	clients+=($!)
	loads+=("${clients[@]}")
}

clients_end_well() {
	local i bad=0
	: >"$work/enough"
	kill -TERM "${clients[@]:0:3}" || bad=1
	for i in 1 2 3 4; do
		wait "${clients[i - 1]}" || bad=1
		echo "client $i: $(<"$work/nfs-$i")" | tee -a "$work/clients"
	done
	return "$bad"
}

# --- the test ----------------------------------------------------------------------------------------

start_fio() {
	fio_load disk.raw --size=64M --rw=randwrite --bs=4k --iodepth=32 --ioengine=libaio --direct=1 \
		--verify_backlog=1500
	fio_load large.raw --size=64M --rw=write --bs=1M --iodepth=4 --ioengine=libaio --direct=1 \
		--verify_backlog=40
	fio_load file --size=16M --rw=randwrite --bs=3k --ioengine=psync --fsync=40 --verify_backlog=300
}

# Nobody may have given up meanwhile.
all_are_at_work() {
	local pid
	for pid in "${loads[@]}" "$guest"; do
		kill -0 "$pid" || return 1
	done
	! guest_says 'GUEST failed'
}

nobody_notices_that_workers_die() {
	local dev i holder clients=()
	dev=$(stat -c %d "$mnt")
	holder=$(daemon_of "$mnt")
	echo kept >kept
	exec 8<kept
	: >"$work/pauses"
	boot
	start_fio
	start_clients
	wait_for 120 guest_says 'GUEST round '
	for ((i = 0; i < kills; i++)); do
		some_time
		kill_timed
		same "$(stat -c %d "$mnt")" "$dev" "device number"
		all_are_at_work || {
			echo "after $((i + 1)) kills:"
			tail -n 3 "$work"/fio-* "$work"/nfs-* "$work/console"
			return 1
		}
	done
	exits 0 "$vpool" upgrade "$mnt"
	some_time
	all_are_at_work
	fio_ends_well "${loads[0]}" disk.raw
	fio_ends_well "${loads[1]}" large.raw
	fio_ends_well "${loads[2]}" file
	clients_end_well
	guest_ends_well
	same "$(cat <&8)" kept
	exec 8<&-
	same "$(daemon_of "$mnt")" "$holder" "holder"
	# What Ganesha met it would have told its clients, and its log.
	if grep -E 'EIO|Input/output|ESTALE' "$work/ganesha.log"; then return 1; fi
	pauses_of | tee "$work/summary"
	# A busy machine may take its time; alone it must not.
	[[ ${VPOOL_LONG:-0} == 1 ]] || return 0
	(($(sed 's/.*p99 \([0-9]*\).*/\1/' "$work/summary") < 2000))
}

the_pool_is_whole() {
	cd "$work"
	stop_server TERM
	"$vpool" umount "$mnt"
	exits 0 "$vpool" check --data "$pool"
}

cd "$work" || exit 1
: >"$work/boot_id"
start_all() {
	start_rpcbind && make_config && create_pool && "$vpool" mount "$pool" "$mnt" -o allow_other,dirsync && start_server
}
if ! start_all; then
	echo "FAILED: starting the servers"
	failed=1
	finish
fi
test_it nobody_notices_that_workers_die
cat "$work/summary" "$work/clients" "$work/guest" 2>/dev/null
test_it the_pool_is_whole
finish
