#!/usr/bin/env bash
# Virtual disks: what people and their tools do to images.
# shellcheck disable=SC2012,SC2016,SC2119,SC2317 # tests are called by name; ls is what is tested
store_flash=64M # some hundred MiB live, two GiB are written
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"

src=$work/source
random_file "$src" 48
src_hash=$(hash_of "$src")

dd_writes_with_any_block_size() {
	local bs
	for bs in 512 1000 4096 4097 65536 131071 1M 3M; do
		dd if="$src" of=dd.raw bs="$bs" count=4000 \
			iflag=fullblock status=none
		cmp -n "$(stat -c %s dd.raw)" dd.raw "$src"
		rm dd.raw
	done
}

dd_writes_directly() {
	local bs
	for bs in 4096 64K 1M 4M; do
		dd if="$src" of=direct.raw bs="$bs" oflag=direct status=none
		same "$(hash_of direct.raw)" "$src_hash" "bs=$bs"
		dd if=direct.raw of="$work/back" bs="$bs" iflag=direct status=none
		same "$(hash_of "$work/back")" "$src_hash" "reading bs=$bs"
		rm direct.raw
	done
	# Direct I/O of a disk needs no alignment at all.
	dd if="$src" of=direct.raw bs=1000 count=300 oflag=direct status=none
	cmp -n 300000 direct.raw "$src"
	rm direct.raw "$work/back"
}

dd_writes_a_plain_file_directly() {
	dd if="$src" of=plain bs=64K oflag=direct status=none
	same "$(hash_of plain)" "$src_hash"
	rm plain
}

synchronous_writes_arrive() {
	dd if="$src" of=sync.raw bs=64K count=32 oflag=dsync status=none
	dd if="$src" of=sync bs=64K count=32 oflag=sync status=none
	cmp -n 2097152 sync.raw "$src"
	cmp -n 2097152 sync "$src"
	rm sync.raw sync
}

truncating_cuts_and_extends() {
	cp "$src" t.raw
	truncate -s 1000001 t.raw
	cmp -n 1000001 t.raw "$src"
	truncate -s 3000000 t.raw
	same "$(stat -c %s t.raw)" 3000000
	same "$(tail -c +1000002 t.raw | tr -d '\0' | wc -c)" 0
	dd if="$src" of=t.raw bs=1 count=10 seek=2999995 conv=notrunc status=none
	same "$(stat -c %s t.raw)" 3000005
	truncate -s 0 t.raw
	same "$(stat -c %s t.raw)" 0
	rm t.raw
}

holes_are_punched() {
	cp "$src" p.raw
	cp "$src" "$work/p"
	fallocate -p -o 1000003 -l 5000000 p.raw
	fallocate -p -o 1000003 -l 5000000 "$work/p"
	cmp p.raw "$work/p"
	fallocate -p -o 40M -l 8M p.raw
	same "$(stat -c %s p.raw)" $((48 * 1024 * 1024))
	same "$(tail -c 8M p.raw | tr -d '\0' | wc -c)" 0
	same "$("$probe" seek hole p.raw 39M)" $((40 * 1024 * 1024))
	refused ENXIO "$probe" seek data p.raw 40M
	fallocate -z -o 47M -l 2M p.raw
	same "$(stat -c %s p.raw)" $((49 * 1024 * 1024))
	fallocate -l 60M p.raw
	same "$(stat -c %s p.raw)" $((60 * 1024 * 1024))
	"$probe" fallocate keep p.raw 0 100M
	same "$(stat -c %s p.raw)" $((60 * 1024 * 1024))
	refused EOPNOTSUPP "$probe" fallocate collapse p.raw 0 4096
	rm p.raw "$work/p"
}

holes_are_found() {
	truncate -s 256M s.raw
	refused ENXIO "$probe" seek data s.raw 0
	same "$("$probe" seek hole s.raw 5)" 5
	dd if="$src" of=s.raw bs=4096 seek=1000 count=2 conv=notrunc status=none
	same "$("$probe" seek data s.raw 0)" 4096000
	same "$("$probe" seek hole s.raw 4096000)" 4104192
	refused ENXIO "$probe" seek data s.raw 4104192
	refused ENXIO "$probe" seek hole s.raw 256M
	cp --sparse=auto s.raw s2.raw
	cmp s.raw s2.raw
	refused ENXIO "$probe" seek data s2.raw 4104192
	rm s.raw s2.raw
}

a_disk_of_64_tib_is_sparse() {
	truncate -s 64T huge.raw
	same "$(stat -c %s huge.raw)" 70368744177664
	printf end | dd of=huge.raw bs=1 seek=70368744177661 conv=notrunc status=none
	printf mid | dd of=huge.raw bs=1 seek=40T conv=notrunc status=none
	same "$(tail -c 3 huge.raw)" end
	same "$(dd if=huge.raw bs=1 skip=40T count=3 status=none)" mid
	same "$("$probe" seek data huge.raw 0)" $((40 << 40))
	[[ $(stat -c %b huge.raw) -lt 1000 ]]
	fallocate -p -o 0 -l 63T huge.raw
	same "$(dd if=huge.raw bs=1 skip=40T count=3 status=none | tr -d '\0' | wc -c)" 0
	same "$(tail -c 3 huge.raw)" end
	rm huge.raw
}

cp_and_mv_keep_images() {
	cp --sparse=never "$src" c.img
	same "$(hash_of c.img)" "$src_hash"
	cp c.img c2.img
	echo old >c3.img
	mv c2.img c3.img
	same "$(hash_of c3.img)" "$src_hash"
	# From one class to the other and back, by name.
	mv c3.img c3
	same "$(hash_of c3)" "$src_hash"
	printf changed | dd of=c3 bs=1 seek=1M conv=notrunc status=none
	mv c3 c3.raw
	same "$(dd if=c3.raw bs=1 skip=1M count=7 status=none)" changed
	printf twice | dd of=c3.raw bs=1 seek=2M conv=notrunc status=none
	mv c3.raw c3
	same "$(dd if=c3 bs=1 skip=1M count=7 status=none)" changed
	same "$(dd if=c3 bs=1 skip=2M count=5 status=none)" twice
	rm c.img c3
	# Images onto images, disks onto disks: what was open keeps the old one.
	cp --sparse=never "$src" m1.raw
	cp /etc/passwd m2.raw
	exec 8<m2.raw
	mv -f m1.raw m2.raw
	same "$(hash_of m2.raw)" "$src_hash"
	same "$(cat <&8)" "$(cat /etc/passwd)"
	exec 8<&-
	# From and to another filesystem: a copy, then a removal.
	mv m2.raw "$work/m3.raw"
	same "$(hash_of "$work/m3.raw")" "$src_hash"
	truncate -s 1M m3.raw
	mv -f "$work/m3.raw" m3.raw
	same "$(hash_of m3.raw)" "$src_hash"
	rm m3.raw
}

a_cached_reader_sees_what_is_written_directly() {
	cp "$src" both
	cat both >/dev/null
	dd if=/dev/zero of=both bs=4096 count=10 seek=5 oflag=direct conv=notrunc status=none
	same "$(dd if=both bs=4096 skip=5 count=10 status=none | tr -d '\0' | wc -c)" 0
	mv both both.raw
	printf direct | dd of=both.raw bs=1 seek=20480 conv=notrunc status=none
	mv both.raw both
	same "$(dd if=both bs=1 skip=20480 count=6 status=none)" direct
	rm both
}

rsync_updates_images() {
	rsync "$src" image.raw
	same "$(hash_of image.raw)" "$src_hash"
	cp "$src" "$work/changed"
	printf changed | dd of="$work/changed" bs=1 seek=12345678 conv=notrunc status=none
	# Without --ignore-times two files of one size and one second are alike to it.
	rsync --ignore-times --inplace --no-whole-file "$work/changed" image.raw
	cmp image.raw "$work/changed"
	# Through a temporary name and a rename, onto an image that is there; as deltas.
	printf again | dd of="$work/changed" bs=1 seek=2345678 conv=notrunc status=none
	rsync --ignore-times --no-whole-file "$work/changed" image.raw
	cmp image.raw "$work/changed"
	same "$(find . -name '.image.raw.*')" ""
	# And out of the pool, both ways.
	rsync --ignore-times image.raw "$work/out.raw"
	cmp image.raw "$work/out.raw"
	printf inside | dd of=image.raw bs=1 seek=3345678 conv=notrunc status=none
	rsync --ignore-times --inplace --no-whole-file image.raw "$work/out.raw"
	cmp image.raw "$work/out.raw"
	# A tree, with its times, links and holes.
	mkdir -p tree/deep
	cp "$src" tree/deep/disk.img
	truncate -s 1G tree/sparse.raw
	ln tree/deep/disk.img tree/linked.img
	ln -s deep tree/symbolic
	rsync -aHS tree/ copy
	rsync -aHSc --dry-run --itemize-changes tree/ copy >"$work/changes"
	same "$(cat "$work/changes")" ""
	same "$(stat -c %h copy/linked.img)" 2
	[[ $(stat -c %b copy/sparse.raw) -lt 1000 ]]
	rm -r image.raw tree copy "$work/changed" "$work/out.raw"
}

tar_brings_a_tree_back() {
	mkdir tree
	cp "$src" tree/disk.raw
	truncate -s 100M tree/sparse.raw
	(cd /usr/include && tar cf - linux) | tar xf - -C tree
	tar cSf tree.tar tree
	mkdir out
	tar xf tree.tar -C out
	diff -r tree out/tree
	diff -r /usr/include/linux tree/linux
	rm -r tree out tree.tar
}

qemu_img_makes_and_converts_raw() {
	qemu-img create -q -f raw q.raw 100M
	same "$(stat -c %s q.raw)" $((100 << 20))
	qemu-img convert -f raw -O raw "$src" q2.raw
	qemu-img compare -q "$src" q2.raw
	qemu-img convert -n -t none -T none -f raw -O raw "$src" q.raw
	cmp -n $((48 << 20)) "$src" q.raw
	qemu-img resize -q -f raw q2.raw +16M
	same "$(stat -c %s q2.raw)" $((64 << 20))
	qemu-img resize -q --shrink -f raw q2.raw 48M
	qemu-img compare -q "$src" q2.raw
	qemu-img map --output=json -f raw q.raw | grep '"length": 50331648.*"data": true' >/dev/null
	qemu-img create -q -f raw -o preallocation=falloc q3.raw 10M
	qemu-img create -q -f raw -o preallocation=full q4.raw 10M
	same "$(stat -c %s q3.raw q4.raw | tr '\n' ' ')" "10485760 10485760 "
	rm q*.raw
}

qemu_img_makes_a_flat_vmdk() {
	qemu-img convert -f raw -O vmdk -o subformat=monolithicFlat "$src" v.vmdk
	[[ -e v-flat.vmdk ]]
	qemu-img compare -q -f raw -F vmdk "$src" v.vmdk
	same "$(hash_of v-flat.vmdk)" "$src_hash"
	# In place, through the descriptor.
	qemu-io -f vmdk -c 'write -P 0x5a 1M 64K' v.vmdk >/dev/null
	same "$(dd if=v-flat.vmdk bs=64K skip=16 count=1 status=none | tr -d 'Z' | wc -c)" 0
	qemu-img check -q -f vmdk v.vmdk
	rm v.vmdk v-flat.vmdk
	qemu-img create -q -f vmdk -o subformat=monolithicFlat e.vmdk 64M
	same "$(stat -c %s e-flat.vmdk)" $((64 << 20))
	qemu-io -f vmdk -t none -c 'write -P 3 5M 1M' -c 'write -P 4 513 700' e.vmdk >/dev/null
	qemu-io -f vmdk -c 'read -P 3 5M 1M' -c 'read -P 4 513 700' e.vmdk | grep 'read 1048576' >/dev/null
	qemu-img map --output=json -f vmdk e.vmdk | grep '"start": 5242880, "length": 1048576' >/dev/null
	qemu-img convert -f vmdk -O raw e.vmdk e.raw
	cmp e.raw e-flat.vmdk
	rm e.vmdk e-flat.vmdk e.raw
}

qemu_img_keeps_a_qcow2_as_a_file() {
	qemu-img convert -f raw -O qcow2 "$src" q.qcow2
	qemu-img check -q q.qcow2
	qemu-img compare -q "$src" q.qcow2
	qemu-img snapshot -c one q.qcow2
	qemu-io -c 'write -P 1 0 1M' q.qcow2 >/dev/null
	qemu-img snapshot -a one q.qcow2
	qemu-img compare -q "$src" q.qcow2
	qemu-img snapshot -d one q.qcow2
	qemu-img resize -q q.qcow2 +100M
	qemu-img map --output=json q.qcow2 | grep '"length": 104857600.*"data": false' >/dev/null
	qemu-img create -q -f qcow2 -F qcow2 -b q.qcow2 over.qcow2
	qemu-io -c 'write -P 9 60M 1M' over.qcow2 >/dev/null
	qemu-img commit -q over.qcow2
	qemu-io -c 'read -P 9 60M 1M' q.qcow2 | grep 'read 1048576' >/dev/null
	qemu-img check -q q.qcow2
	rm q.qcow2 over.qcow2
}

qemu_io_writes_with_every_kind_of_aio() {
	local aio
	qemu-img create -q -f raw aio.raw 64M
	for aio in threads native io_uring; do
		qemu-io -t none -i "$aio" -f raw -c 'aio_write -P 17 0 1M' \
			-c 'aio_write -P 18 1M 4K' -c 'aio_write -P 19 5M 512' -c 'aio_flush' -c flush \
			-c 'read -P 17 0 1M' -c 'read -P 18 1M 4K' -c 'read -P 19 5M 512' \
			-c 'write -z 0 2M' -c 'read -P 0 0 2M' -c 'discard 5M 1M' aio.raw |
			tee "$work/io" | grep discard >/dev/null
		if grep -iE 'fail|mismatch|error' "$work/io"; then return 1; fi
	done
	rm aio.raw
}

# Many at once, in one directory: each keeps what is its own.
a_thousand_disks_live_side_by_side() {
	"$probe" disks many 1000 16384
	"$probe" check-disks many 1000 16384
}

a_thousand_disks_are_there_after_a_remount() {
	same "$(find many -name '*.raw' | wc -l)" 1000
	"$probe" check-disks many 1000 16384
	rm -r many
}

a_filesystem_lives_on_a_loop_device() {
	local dev files=$work/loop
	mkdir -p "$files"
	truncate -s 256M loop.raw
	dev=$(losetup -f --show "$mnt/loop.raw")
	mkfs.ext4 -q "$dev"
	mount "$dev" "$files"
	cp "$src" "$files/copy"
	(cd /usr/include && tar cf - linux) | tar xf - -C "$files"
	sync -f "$files"
	rm -r "$files/linux/netfilter"
	# Until it is full, and some of it again.
	dd if=/dev/urandom of="$files/fill" bs=1M status=none 2>"$work/said" && return 1
	grep -q 'No space left' "$work/said"
	sync -f "$files"
	hash_of "$files/fill" >"$work/fill.hash"
	fstrim "$files"
	umount "$files"
	e2fsck -f -n "$dev"
	losetup -d "$dev"
	e2fsck -f -n loop.raw
}

the_filesystem_is_whole_after_a_remount() {
	local dev files=$work/loop
	e2fsck -f -n loop.raw
	dev=$(losetup -f --show -r "$mnt/loop.raw")
	mount -o ro,noload "$dev" "$files"
	same "$(hash_of "$files/copy")" "$src_hash"
	same "$(hash_of "$files/fill")" "$(cat "$work/fill.hash")"
	diff -r --exclude=netfilter /usr/include/linux "$files/linux"
	umount "$files"
	losetup -d "$dev"
	rm loop.raw
}

mount_pool || exit 1
test_it dd_writes_with_any_block_size
test_it dd_writes_directly
test_it dd_writes_a_plain_file_directly
test_it synchronous_writes_arrive
test_it truncating_cuts_and_extends
test_it holes_are_punched
test_it holes_are_found
test_it a_disk_of_64_tib_is_sparse
test_it cp_and_mv_keep_images
test_it a_cached_reader_sees_what_is_written_directly
test_with rsync rsync_updates_images
test_it tar_brings_a_tree_back
test_with qemu-img qemu_img_makes_and_converts_raw
test_with qemu-img qemu_img_makes_a_flat_vmdk
test_with qemu-img qemu_img_keeps_a_qcow2_as_a_file
test_with qemu-io qemu_io_writes_with_every_kind_of_aio
mkdir "$mnt/many"
test_it a_thousand_disks_live_side_by_side
if [[ -b /dev/loop0 ]]; then
	test_with mkfs.ext4 a_filesystem_lives_on_a_loop_device
	remount_pool || failed=$((failed + 1))
	test_with mkfs.ext4 the_filesystem_is_whole_after_a_remount
else
	skip_it a_filesystem_lives_on_a_loop_device /dev/loop0
	remount_pool || failed=$((failed + 1))
fi
test_it a_thousand_disks_are_there_after_a_remount
umount_pool || failed=$((failed + 1))
finish
