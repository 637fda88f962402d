#!/usr/bin/env bash
# Templates as a user meets them, fifty clones of one, and what a restore from the backend alone brings back.
# shellcheck disable=SC2016,SC2119,SC2317 # tests are called by name
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"

src=$work/source
random_file "$src" 4
src_hash=$(hash_of "$src")

mount_it() {
	"$vpool" mount "$pool" "$mnt" || return 1
	cd "$mnt" || return 1
}

umount_it() {
	cd "$work" || return 1
	"$vpool" umount "$mnt"
}

kill_it() {
	local pid
	cd "$work" || return 1
	pid=$(daemon_of "$mnt")
	kill -KILL "$pid"
	wait_for 20 is_gone "$pid"
}

a_template() {
	cp --sparse=never "$src" "$1"
	"$vpool" template "$1"
}

a_template_is_read_and_not_written() {
	a_template t.raw
	said=$("$vpool" info t.raw)
	says "disk, a template"
	said=$("$vpool" list "$mnt")
	says "/t.raw  (template)"
	said=$("$vpool" status "$mnt")
	says "1 templates"
	same "$(json "$("$vpool" info --json t.raw)" 'd["template"]')" True
	refused "not permitted" dd if="$src" of=t.raw bs=4096 count=1 conv=notrunc
	refused "not permitted" truncate -s 1M t.raw
	refused "not permitted" fallocate -p -o 0 -l 4096 t.raw
	refused "not permitted" cp "$src" t.raw
	same "$(hash_of t.raw)" "$src_hash"
	cp t.raw "$work/copy"
	cmp "$work/copy" "$src"
	qemu-img compare -f raw -F raw t.raw "$src" >/dev/null
	chmod 600 t.raw
	mv t.raw u.raw
	kill_it
	mount_it
	refused "not permitted" truncate -s 1M u.raw
	same "$(hash_of u.raw)" "$src_hash"
	"$vpool" template --undo u.raw
	printf new | dd of=u.raw conv=notrunc status=none
	same "$(head -c 3 u.raw)" new
	rm u.raw "$work/copy"
}

a_disk_that_is_open_is_left_alone_unless_forced() {
	cp --sparse=never "$src" o.raw
	exec 8<>o.raw
	exits 5 "$vpool" template o.raw
	says "--force"
	"$vpool" template --force o.raw
	refused "not permitted" dd if="$src" bs=4096 count=1 of=/proc/self/fd/8 conv=notrunc
	printf x >&8 2>/dev/null && return 1
	exec 8>&-
	same "$(hash_of o.raw)" "$src_hash"
	exits 2 "$vpool" template
	exits 2 "$vpool" template "$mnt"
	exits 4 "$vpool" template none.raw
	rm o.raw
	"$vpool" trash empty "$mnt" --all >/dev/null
}

a_removed_template_goes_to_the_trash_and_its_clones_stay() {
	a_template r.raw
	"$vpool" clone r.raw c.raw
	same "$(json "$("$vpool" list --json "$mnt")" '[x["parent"] for x in d["disks"]]')" "[None, '/r.raw']"
	rm r.raw
	same "$(hash_of c.raw)" "$src_hash"
	"$vpool" trash restore "$mnt" /r.raw >/dev/null
	refused "not permitted" truncate -s 1M r.raw
	rm r.raw
	"$vpool" trash empty "$mnt" --all >/dev/null
	same "$(hash_of c.raw)" "$src_hash"
	rm c.raw
}

# 4 KiB at random places of each clone, and the same in what it should be.
scribble() {
	python3 - "$src" "$work/want" <<-'END'
		import os, random, sys
		src, want = sys.argv[1:]
		for n in range(1, 51):
		    rng = random.Random(n)
		    data = bytearray(open(src, "rb").read())
		    fd = os.open(f"clone{n}.raw", os.O_RDWR)
		    for _ in range(20):
		        at, piece = rng.randrange(len(data) // 4096) * 4096, rng.randbytes(4096)
		        os.pwrite(fd, piece, at)
		        data[at : at + 4096] = piece
		    os.close(fd)
		    open(f"{want}.{n}", "wb").write(data)
	END
}

fifty_clones_of_a_template_go_their_own_ways_also_after_a_restore() {
	local n left
	a_template base.raw
	"$vpool" snapshot create --name birth base.raw >/dev/null
	for n in {1..50}; do
		"$vpool" clone base.raw "clone$n.raw"
	done
	scribble
	"$vpool" snapshot create --name later clone1.raw clone2.raw >/dev/null
	"$vpool" clone clone1.raw@later second.raw
	for n in {1..50}; do
		cmp "clone$n.raw" "$work/want.$n"
	done
	same "$(hash_of base.raw)" "$src_hash"
	# In no order at all; the template in the midst of it.
	for n in 17 50 3 44 29 8 31; do
		rm "clone$n.raw"
	done
	rm base.raw
	for n in 25 9; do
		rm "clone$n.raw"
	done
	"$vpool" trash restore "$mnt" /base.raw >/dev/null
	"$vpool" sync "$mnt"
	umount_it
	"$vpool" restore "$work/pool2" --backend "file://$pool/objects" >/dev/null
	"$vpool" mount "$work/pool2" "$mnt"
	cd "$mnt"
	left=$(for n in {1..50}; do [[ ! -e clone$n.raw ]] || echo "$n"; done)
	same "$(wc -w <<<"$left")" 41
	for n in $left; do
		cmp "clone$n.raw" "$work/want.$n"
	done
	same "$(json "$("$vpool" list --json "$mnt")" 'sorted({(x["parent"], x["parent_snapshot"], x["template"]) for x in d["disks"]}, key=str)')" \
		"[('/base.raw', 'birth', False), ('/clone1.raw', 'later', False), (None, None, True)]"
	cmp second.raw "$work/want.1"
	cmp .snapshots/clone2.raw/later "$work/want.2"
	same "$(hash_of .snapshots/base.raw/birth)" "$src_hash"
	refused "not permitted" truncate -s 1M base.raw
	"$vpool" clone base.raw again.raw
	same "$(hash_of again.raw)" "$src_hash"
	umount_it
	said=$("$vpool" check --data "$work/pool2")
	says "0 errors"
	"$root/tests/walker/walk.py" "$work/pool2" >/dev/null
	"$vpool" mount "$work/pool2" "$mnt"
	cd "$mnt"
	rm -- *.raw
	"$vpool" trash empty "$mnt" --all >/dev/null
	freed() {
		"$vpool" sync "$mnt"
		(($(json "$("$vpool" status --json "$mnt")" 'd["used_bytes"]') < 65536))
	}
	wait_for 30 freed
	umount_it
}

"$vpool" create "$pool" >/dev/null
(mount_it)
test_with qemu-img a_template_is_read_and_not_written
test_it a_disk_that_is_open_is_left_alone_unless_forced
test_it a_removed_template_goes_to_the_trash_and_its_clones_stay
test_it fifty_clones_of_a_template_go_their_own_ways_also_after_a_restore
finish
