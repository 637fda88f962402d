#!/usr/bin/env bash
# A Linux guest with a disk of the pool: cache=none, once for each way in which qemu does its I/O.
# The kernel comes from packaging/setup, which unpacks it under build/guest; the processor is emulated.
# shellcheck disable=SC2016,SC2119,SC2317 # tests are called by name
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"

guest_limit_s=150

# boot AIO: strace tells how the disk was really written and read.
boot() {
	local aio=$1
	timeout "$guest_limit_s" strace -f --seccomp-bpf -y -qq -o "$work/$aio.trace" \
		-e trace=io_uring_enter,io_submit,preadv,pwritev,preadv2,pwritev2,pread64,pwrite64,fallocate \
		qemu-system-x86_64 -accel tcg -cpu max -m 256 -smp 1 -nodefaults -no-reboot -display none \
		-serial stdio -kernel "$kernel" -initrd "$work/initrd.img" \
		-append "console=ttyS0 panic=-1 quiet loglevel=3" \
		-drive "if=none,id=d,format=raw,file=$mnt/$aio.raw,cache=none,aio=$aio,discard=unmap" \
		-device virtio-blk-pci,drive=d </dev/null 2>&1 | tr -d '\r' >"$work/$aio.console"
}

# calls AIO REGEX: so many lines of its trace match
calls() { grep -cE "$2" "$work/$1.trace"; }

# Reads and writes that a thread did by a call of its own. Opening the disk takes a few.
by_threads() { calls "$1" "(preadv|pwritev|preadv2|pwritev2|pread64|pwrite64)\([0-9]+<[^>]*/$1\.raw>"; }

guest() {
	local aio=$1
	truncate -s 256M "$aio.raw"
	boot "$aio" || {
		echo "qemu failed:"
		cat "$work/$aio.console"
		return 1
	}
	grep -a GUEST "$work/$aio.console" || cat "$work/$aio.console"
	grep -qa 'GUEST passed' "$work/$aio.console"
	grep -qa 'GUEST barrier: write back' "$work/$aio.console"
	echo "$aio: io_uring_enter $(calls "$aio" io_uring_enter\\\(), io_submit $(calls "$aio" io_submit\\\()," \
		"by threads $(by_threads "$aio"), punched $(calls "$aio" PUNCH_HOLE)"
	(($(calls "$aio" "fallocate\(.*$aio.raw>.*PUNCH_HOLE") > 0))
}

a_guest_lives_on_a_disk_with_aio_io_uring() {
	guest io_uring
	(($(calls io_uring 'io_uring_enter\(') > 100 && $(calls io_uring 'io_submit\(') == 0))
	(($(by_threads io_uring) < 50))
}

a_guest_lives_on_a_disk_with_aio_native() {
	guest native
	(($(calls native 'io_submit\(') > 100 && $(by_threads native) < 50))
}

a_guest_lives_on_a_disk_with_aio_threads() {
	guest threads
	(($(by_threads threads) > 100 && $(calls threads 'io_submit\(') == 0))
}

# What the guest said that it wrote, read by the host's own filesystem after another mount.
the_content_is_right_from_the_host() {
	local aio dev hash path
	for aio in io_uring native threads; do
		e2fsck -f -n "$aio.raw"
		dev=$(losetup -f --show -r "$mnt/$aio.raw")
		mount -o ro,noload "$dev" "$work/inside"
		same "$(grep -ca 'GUEST hash: ' "$work/$aio.console")" 4
		while read -r _ _ hash path; do
			same "$(hash_of "$work/inside${path#/mnt}")" "$hash" "$aio: $path"
		done < <(grep -a 'GUEST hash: ' "$work/$aio.console")
		same "$(grep -a 'GUEST again: ' "$work/$aio.console" | cut -d ' ' -f 3-)" \
			"$(grep -a 'GUEST hash: ' "$work/$aio.console" | cut -d ' ' -f 3-)"
		[[ ! -e $work/inside/trimmed ]]
		umount "$work/inside"
		losetup -d "$dev"
		# 24 MiB were written, removed and trimmed: what is left is less than the whole.
		(($(stat -c %b "$aio.raw") * 512 < 34 << 20))
	done
}

missing=
command -v strace >/dev/null || missing=strace
missing=${missing:-$(missing_for_a_guest)}
if [[ -n $missing ]]; then
	for aio in io_uring native threads; do
		skip_it "a_guest_lives_on_a_disk_with_aio_$aio" "$missing"
	done
	finish
fi
mkdir "$work/inside"
make_initrd guest_init "virtio_pci virtio_blk ext4" mke2fs e2fsck || {
	echo "FAILED: making the guest's first filesystem"
	failed=1
	finish
}
create_pool && "$vpool" mount "$pool" "$mnt" || exit 1
test_it a_guest_lives_on_a_disk_with_aio_io_uring
test_it a_guest_lives_on_a_disk_with_aio_native
test_it a_guest_lives_on_a_disk_with_aio_threads
"$vpool" umount "$mnt" && "$vpool" mount "$pool" "$mnt" || failed=$((failed + 1))
test_it the_content_is_right_from_the_host
"$vpool" umount "$mnt" || failed=$((failed + 1))
finish
