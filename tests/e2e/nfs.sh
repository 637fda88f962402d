#!/usr/bin/env bash
# A pool exported by NFS-Ganesha, with packaging/nfs/ganesha.conf: what qemu, libnfs and ESXi do on it.
# Everything runs in namespaces of its own: the ports of NFS are free there, and nothing outlives the script.
# NFS_PART=guest (nfsd.sh): the kernel's clients of all versions instead, and the kernel's own server.
# shellcheck disable=SC2012,SC2016,SC2119,SC2317 # tests are called by name

if [[ -z ${NFS_ALONE:-} ]] && unshare --net --mount --pid --fork true 2>/dev/null; then
	NFS_ALONE=1 exec unshare --net --mount --pid --fork --kill-child --mount-proc "$0" "$@"
fi
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"

if [[ -z ${NFS_ALONE:-} || -n $store ]]; then
	echo "needs namespaces of its own, and no store on the network"
	echo "0 passed, 0 failed, 1 skipped"
	exit 77
fi
missing=
for tool in ganesha.nfsd rpcbind nfs-ls qemu-img strace ip rpc.mountd; do
	command -v "$tool" >/dev/null || missing=$tool
done
[[ ${NFS_PART:-} != guest ]] || missing=${missing:-$(missing_for_a_guest)}
if [[ -n $missing ]]; then
	echo "'$missing' is missing (packaging/setup)"
	echo "0 passed, 0 failed, 1 skipped"
	exit 77
fi

nfs3=$(find_program tool_nfs3)
export NFS3_EXPORT=/vpool
url=nfs://127.0.0.1$NFS3_EXPORT
tracer=0
loads=()

leave() {
	kill_all "${loads[@]}" "$tracer"
	end_server
	cleanup
}
trap leave EXIT

# all_of CHARACTER BYTES: that is what comes.
all_of() { cmp - <(head -c "$2" /dev/zero | tr '\0' "$1"); }

drop_caches() { echo 3 >/proc/sys/vm/drop_caches; }

# Who asks right behind the removal may still be answered: the server closes files in its own time.
is_stale() { refused STALE "$nfs3" stat "$1"; }

# --- clients that there are ------------------------------------------------------------------------

qemu_keeps_its_images_there() {
	random_file "$work/image" 16
	qemu-img convert -q -f raw -O raw "$work/image" "$url/image.raw"
	qemu-img compare -q -f raw -F raw "$work/image" "$url/image.raw"
	cmp "$work/image" "$mnt/image.raw"
	qemu-img create -q -f vmdk -o subformat=monolithicFlat esx.vmdk 64M
	qemu-io -f raw -c 'write -P 7 1M 4M' -c 'discard 2M 1M' -c flush "$url/esx-flat.vmdk"
	qemu-io -f vmdk -c 'read -P 7 1M 1M' -c 'read -P 0 8M 1M' "$mnt/esx.vmdk"
	qemu-img convert -q -f raw -O qcow2 "$work/image" "$url/image.qcow2"
	qemu-img compare -q -f raw -F qcow2 "$work/image" "$mnt/image.qcow2"
}

libnfs_sees_the_same_by_both_versions() {
	local version
	nfs-cp "$work/image" "$url/copied?version=3"
	cmp "$work/image" "$mnt/copied"
	for version in 3 4; do
		same "$(nfs-cat "$url/copied?version=$version" | sha256sum)" "$(sha256sum <"$work/image")" \
			"version $version"
		same "$(nfs-ls "$url?version=$version" | awk '{ print $5, $6 }' | sort)" \
			"$(stat -c '%s %n' -- * | sort)" "version $version"
	done
	"$vpool" snapshot create --name before image.raw
	for version in 3 4; do
		same "$(nfs-cat "$url/.snapshots/image.raw/before?version=$version" | sha256sum)" \
			"$(sha256sum <"$work/image")" "snapshot, version $version"
	done
	# What changed behind the server's back is seen at once.
	echo shorter >copied
	same "$(nfs-cat "$url/copied?version=3")" shorter
	echo new >other
	"$nfs3" stat other
	rm other
	refused NOENT "$nfs3" stat other
	"$nfs3" remove copied
}

# --- what ESXi does --------------------------------------------------------------------------------

a_lock_is_made_once_and_renewed() {
	local lock
	mkdir -p vm
	lock=$("$nfs3" create vm/.lck-0100 exclusive 77)
	# Its maker, who did not hear the answer, may ask again; nobody else.
	same "$("$nfs3" create vm/.lck-0100 exclusive 77)" "$lock"
	refused EXIST "$nfs3" create vm/.lck-0100 exclusive 78
	refused EXIST "$nfs3" create vm/.lck-0100 guarded 0
	"$nfs3" renew "$lock" 84 100
	same "$(stat -c %s vm/.lck-0100)" 84
	"$nfs3" remove vm/.lck-0100
	wait_for 30 is_stale "$lock"
	"$nfs3" create vm/.lck-0100 exclusive 78 >"$work/lock"
}

a_machine_is_made_runs_and_is_renamed() {
	local flat before
	mkdir -p vm
	"$nfs3" create vm/m.vmdk guarded 0 >"$work/descriptor"
	"$nfs3" write vm/m.vmdk 0 512 d file_sync 1
	flat=$("$nfs3" create vm/m-flat.vmdk guarded 0)
	# The disk grows by its length alone.
	"$nfs3" size "$flat" 4G
	"$nfs3" size "$flat" 8G
	same "$(stat -c %s vm/m-flat.vmdk)" $((8 << 30))
	same "$("$vpool" info --json vm/m-flat.vmdk | grep -o '"class": *"[a-z]*"' | grep -o disk)" disk
	(($(stat -c %b vm/m-flat.vmdk) < 100))
	"$nfs3" write "$flat" 1M 4K a file_sync 16
	"$nfs3" write "$flat" 2M 64K b file_sync 16
	"$nfs3" write "$flat" 6G 64K c unstable 16
	"$nfs3" commit "$flat"
	dd if=vm/m-flat.vmdk bs=64K skip=32 count=16 status=none | all_of b 1M
	before=$("$nfs3" stat "$flat")
	# It runs meanwhile.
	truncate -s 8M vm/run-flat.vmdk
	"$nfs3" load "$("$nfs3" handle vm/run-flat.vmdk)" 8M 1 >"$work/load" 2>&1 &
	loads=($!)
	"$nfs3" mkdir vm/new
	"$nfs3" rename vm/run-flat.vmdk vm/new/run-1-flat.vmdk
	"$nfs3" rename vm/m-flat.vmdk vm/new/m2-flat.vmdk
	"$nfs3" rename vm/m.vmdk vm/new/m2.vmdk
	# To the other class and back: ESXi's names for a move.
	"$nfs3" rename vm/new/run-1-flat.vmdk vm/new/run.tmp
	"$nfs3" rename vm/new/run.tmp vm/run-flat.vmdk
	same "$("$nfs3" stat "$flat")" "$before" "size and number behind the handle"
	"$nfs3" read "$flat" 6G 64K | all_of c 64K
	kill -TERM "${loads[0]}"
	wait "${loads[0]}" || {
		cat "$work/load"
		return 1
	}
}

fsstat_tells_the_space_that_there_is() {
	local total free
	read -r total free _ <<<"$("$nfs3" fsstat)"
	same "$total" "$(stat -f -c '%b * %S' "$mnt" | xargs -I{} bash -c 'echo $(({}))')"
	((free > 0 && free <= total))
}

nothing_is_kept() {
	json "$("$vpool" stats --json "$mnt")" '0 if d["counters"]["fs.orphans"] == d["counters"]["fs.reclaims"] else 1/0'
}

# Whatever the server had open of it.
what_was_removed_gives_its_space_back() {
	local gone
	gone=$("$nfs3" create gone.raw guarded 0)
	"$nfs3" write "$gone" 0 64K x unstable 16
	"$nfs3" read "$gone" 0 64K | all_of x 64K
	"$nfs3" remove gone.raw
	wait_for 30 is_stale "$gone"
	wait_for 30 nothing_is_kept
}

# --- handles ---------------------------------------------------------------------------------------

# All of these by the handles that a client has kept.
handles_are_good() {
	"$nfs3" read "$disk_handle" 64K 4K | all_of 1 4K
	same "$("$nfs3" read "$file_handle" 0 100)" "a small file" "file"
	same "$("$nfs3" stat "$deep_handle" | cut -d ' ' -f 2)" "$(stat -c %i h/deep)" "directory"
	"$nfs3" write "$disk_handle" 1M 4K 2 file_sync 1
	"$nfs3" read "$disk_handle" 1M 4K | all_of 2 4K
	refused STALE "$nfs3" stat "$gone_handle"
}

# take_device NUMBER: so that the next mount is another one. Mounts get the lowest that is free.
take_device() {
	local i
	for ((i = 0; i < 100; i++)); do
		mount -t tmpfs tmpfs "$work/placeholder"
		(($(stat -c %d "$work/placeholder") < $1)) || return 0
	done
	return 1
}

handles_stay_good() {
	local dead device
	mkdir -p h/deep/er
	echo "a small file" >h/deep/er/file
	disk_handle=$("$nfs3" create h/deep/er/disk.raw guarded 0)
	"$nfs3" write "$disk_handle" 0 64K 1 file_sync 2
	file_handle=$("$nfs3" handle h/deep/er/file)
	deep_handle=$("$nfs3" handle h/deep)
	gone_handle=$("$nfs3" create h/gone.raw guarded 0)
	"$nfs3" remove h/gone.raw
	wait_for 30 is_stale "$gone_handle"
	: >h/never.raw
	handles_are_good
	echo "the kernel and the daemon forget"
	drop_caches
	handles_are_good
	echo "the worker dies"
	kill_worker
	handles_are_good
	drop_caches
	kill_worker
	handles_are_good
	echo "the server starts again"
	cd "$work"
	stop_server KILL
	start_server
	cd "$mnt"
	handles_are_good
	echo "the pool is mounted again, as another device"
	device=$(stat -c %d "$mnt")
	cd "$work"
	stop_server TERM
	"$vpool" umount "$mnt"
	take_device "$device"
	"$vpool" mount "$pool" "$mnt" -o "$mount_options"
	start_server
	cd "$mnt"
	[[ $(stat -c %d "$mnt") != "$device" ]] || {
		echo "it is device $device again"
		return 1
	}
	handles_are_good
}

# --- what is answered is durable -------------------------------------------------------------------

# How often the daemon syncs files while a command runs. A sync of several at once is not seen: where one SCO
# follows another.
count_syncs() {
	local r=0 worker
	worker=$(worker_of)
	rm -f "$work/syncs"
	strace -f -qq -y -e trace=fdatasync,fsync -o "$work/syncs" -p "$worker" 2>>"$log" &
	tracer=$!
	wait_for 20 is_traced
	"$@" || r=1
	kill -INT "$tracer"
	wait "$tracer" || true
	syncs=$(grep -cE '(fdatasync|fsync)\(' "$work/syncs" || true)
	return "$r"
}
is_traced() { ! cat /proc/"$worker"/task/*/status | grep -q '^TracerPid:[[:space:]]*0$'; }

a_sync_behind_a_synchronous_write_costs_nothing() {
	local handle
	truncate -s 64M sync.raw
	handle=$("$nfs3" handle sync.raw)
	"$nfs3" write "$handle" 0 4K 0 file_sync 4
	sync "$mnt/sync.raw"
	count_syncs "$nfs3" write "$handle" 1M 4K 1 file_sync 200
	echo "200 FILE_SYNC writes: $syncs"
	((syncs > 150 && syncs < 300))
	count_syncs commits "$handle" 50
	echo "50 COMMITs: $syncs"
	((syncs < 25))
	# The kernel asks for a sync behind each such write.
	count_syncs dd if=/dev/zero of=sync.raw bs=4K count=200 seek=4K conv=notrunc oflag=direct,dsync status=none
	echo "200 O_DSYNC writes past the cache: $syncs"
	((syncs > 150 && syncs < 300))
	count_syncs dd if=/dev/zero of=file bs=4K count=200 oflag=dsync status=none
	echo "200 O_DSYNC writes of a plain file: $syncs"
	((syncs > 150 && syncs < 300))
}
commits() {
	local i
	for ((i = 0; i < $2; i++)); do "$nfs3" commit "$1"; done
}

# --- kernels: clients of the server here, and a server on a pool of the guest's own ----------------

guest_limit_s=240

boot() {
	timeout "$guest_limit_s" qemu-system-x86_64 -accel tcg,thread=multi -cpu max -m 768 -smp 2 -nodefaults \
		-no-reboot -display none -serial stdio -kernel "$kernel" -initrd "$work/initrd.img" \
		-append "console=ttyS0 panic=-1 quiet loglevel=3" \
		-drive "if=none,id=d,format=raw,file=$work/guest.raw,cache=unsafe" -device virtio-blk-pci,drive=d \
		-netdev user,id=n -device virtio-net-pci,netdev=n </dev/null 2>&1 | tr -d '\r' >"$work/console"
}

the_kernels_clients_and_server_work() {
	local hash path version
	cd "$work"
	mkdir -p initrd/etc
	sed 's|^/srv/vm [^(]*|/srv/vm 127.0.0.1|' "$root/packaging/nfs/exports" >initrd/etc/exports
	cp /etc/netconfig /etc/protocols /etc/services /etc/passwd initrd/etc/
	echo '127.0.0.1 localhost' >initrd/etc/hosts
	make_initrd nfs_guest_init "virtio_pci virtio_blk virtio_net ext4 fuse nfsd nfsv3 nfsv4" mke2fs dd "$vpool" \
		rpcbind exportfs rpc.nfsd rpc.mountd
	truncate -s 2G guest.raw
	boot || cat console
	grep -a GUEST console
	grep -qa 'GUEST passed' console
	cd "$mnt"
	# What the guest saw is what there is.
	while read -r _ _ version hash path; do
		[[ -e $mnt/guest$version ]] || continue
		same "$(hash_of "$mnt${path#/mnt}")" "$hash" "$path"
	done < <(grep -a 'GUEST hash: ' "$work/console" | head -n 6)
}

the_pool_is_whole() {
	cd "$work"
	stop_server TERM
	"$vpool" umount "$mnt"
	exits 0 "$vpool" check --data "$pool"
}

# --- the power goes off ----------------------------------------------------------------------------

# What survives: the store. What does not: the ring, the boot (as in powercut.sh).
power_on() {
	rm -f /dev/shm/*
	cat /proc/sys/kernel/random/uuid >"$work/boot_id"
	"$cutfs" "$work/store" "$disk" >"$work/cutfs.out" 2>>"$log" &
	disown "$!"
	wait_for 20 grep -q ready "$work/cutfs.out"
}

power_off() {
	local holder
	holder=$(daemon_of "$mnt")
	echo "cut 10" >"$disk/.cutfs" # nothing that was not synced stays
	tail -n 1 "$work/store/cuts" | grep -q 'keep_ppm=0 '
	stop_server KILL
	kill -KILL "$holder"
	wait_for 30 is_gone "$holder"
	umount -l "$mnt"
	wait_for 30 umount "$disk"
}

what_was_answered_survives_a_power_cut() {
	local round dir file
	cd "$work"
	power_on
	"$vpool" create "$pool" >/dev/null
	for round in 1 2 3 4 5; do
		"$vpool" mount "$pool" "$mnt" -o "$mount_options"
		start_server
		dir=r$round
		"$nfs3" mkdir "$dir"
		file=$("$nfs3" create "$dir/.lck-1" exclusive "$round")
		"$nfs3" write "$file" 0 84 l file_sync 1
		for name in m.vmdk m-flat.vmdk gone "$dir"; do
			"$nfs3" create "$dir/$name" guarded 0 >/dev/null
		done
		file=$("$nfs3" handle "$dir/m-flat.vmdk")
		"$nfs3" write "$file" 0 64K f file_sync 4
		"$nfs3" rename "$dir/m.vmdk" "$dir/renamed.vmdk"
		case $round in # the last call has nothing behind it that could make it durable
		1) "$nfs3" rename "$dir/$dir" "$dir/last" ;;
		2) "$nfs3" remove "$dir/gone" ;;
		3) "$nfs3" size "$file" 1G ;;
		4) : >"$mnt/$dir/last" ;; # by NFS attributes are set behind it
		5) ln -s to "$mnt/$dir/last" ;;
		esac
		power_off
		power_on
		"$vpool" mount "$pool" "$mnt" -o "$mount_options"
		all_of l 84 <"$mnt/$dir/.lck-1"
		head -c 256K "$mnt/$dir/m-flat.vmdk" | all_of f 256K
		case $round in
		1) same "$(ls "$mnt/$dir")" $'gone\nlast\nm-flat.vmdk\nrenamed.vmdk' ;;
		2) same "$(ls "$mnt/$dir")" $'m-flat.vmdk\nr2\nrenamed.vmdk' ;;
		3) same "$(stat -c %s "$mnt/$dir/m-flat.vmdk")" $((1 << 30)) "length" ;;
		*) same "$(ls "$mnt/$dir")" $'gone\nlast\nm-flat.vmdk\n'"$dir"$'\nrenamed.vmdk' ;;
		esac
		"$vpool" umount "$mnt"
		exits 0 "$vpool" check --data "$pool"
	done
	umount "$disk"
}

cd "$work" || exit 1
mount_options=allow_other,dirsync
cutfs=$(find_program tool_cutfs)
disk=$work/disk
mkdir "$work/store" "$disk"
: >"$work/boot_id"
start_all() { start_rpcbind && make_config && create_pool && "$vpool" mount "$pool" "$mnt" -o "$mount_options" && start_server; }
if ! start_all; then
	echo "FAILED: starting the servers"
	failed=1
	finish
fi
if [[ ${NFS_PART:-} == guest ]]; then
	test_it the_kernels_clients_and_server_work
	test_it the_pool_is_whole
	finish
fi
test_it qemu_keeps_its_images_there
test_it libnfs_sees_the_same_by_both_versions
test_it a_lock_is_made_once_and_renewed
test_it a_machine_is_made_runs_and_is_renamed
test_it fsstat_tells_the_space_that_there_is
test_it what_was_removed_gives_its_space_back
test_it a_sync_behind_a_synchronous_write_costs_nothing
test_it handles_stay_good
test_it the_pool_is_whole
pool=$disk/pool
test_it what_was_answered_survives_a_power_cut
finish
