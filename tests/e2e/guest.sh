#!/usr/bin/env bash
# A Linux guest with a disk of the pool: cache=none, once for each way in which qemu does its I/O.
# The kernel comes from packaging/setup, which unpacks it under build/guest; the processor is emulated.
# shellcheck disable=SC2016,SC2119,SC2317 # tests are called by name
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"

guest_dir=${VPOOL_GUEST_DIR:-$root/build/guest}
kernel=$(compgen -G "$guest_dir/boot/vmlinuz-*" | head -n 1)
modules=$(compgen -G "$guest_dir/lib/modules/*" | head -n 1)
guest_limit_s=150

# The guest's first filesystem: a shell, two tools with their libraries, what drives the disk.
make_initrd() {
	local top=$work/initrd tool lib kind module
	mkdir -p "$top"/{bin,proc,sys,dev,mnt,tmp,lib,x}
	cp /bin/busybox "$top/bin/"
	cp "$(dirname "$0")/guest_init" "$top/init"
	chmod 755 "$top/init"
	: >"$top/modules"
	depmod -b "$guest_dir" "${modules##*/}" || return 1
	for module in virtio_pci virtio_blk ext4; do
		modprobe -d "$guest_dir" -S "${modules##*/}" --show-depends "$module"
	done | while read -r kind module _; do
		[[ $kind == insmod && ! -e $top/lib/${module##*/} ]] || continue
		cp "$module" "$top/lib/" && echo "/lib/${module##*/}" >>"$top/modules"
	done
	for tool in mke2fs e2fsck; do
		tool=$(command -v "$tool") || return 1
		cp -L "$tool" "$top/x/"
		ldd "$tool" | grep -o '/[^ ]*' | while read -r lib; do
			mkdir -p "$top${lib%/*}"
			cp -Ln "$lib" "$top$lib"
		done
	done
	(cd "$top" && find . | cpio -o -H newc --quiet | gzip -1) >"$work/initrd.img"
}

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
	(($(calls io_uring 'io_uring_enter\(') > 300 && $(calls io_uring 'io_submit\(') == 0))
	(($(by_threads io_uring) < 50))
}

a_guest_lives_on_a_disk_with_aio_native() {
	guest native
	(($(calls native 'io_submit\(') > 300 && $(by_threads native) < 50))
}

a_guest_lives_on_a_disk_with_aio_threads() {
	guest threads
	(($(by_threads threads) > 300 && $(calls threads 'io_submit\(') == 0))
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
for tool in qemu-system-x86_64 strace cpio depmod mke2fs; do
	command -v "$tool" >/dev/null || missing=$tool
done
[[ -x /bin/busybox ]] || missing=busybox
[[ -n $kernel && -n $modules ]] || missing="a kernel under $guest_dir (packaging/setup)"
if [[ -n $missing ]]; then
	for aio in io_uring native threads; do
		skip_it "a_guest_lives_on_a_disk_with_aio_$aio" "$missing"
	done
	finish
fi
mkdir "$work/inside"
make_initrd || {
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
