#!/usr/bin/env bash
# Snapshots and clones as a user makes them: by the command, below .snapshots, and by copying.
# shellcheck disable=SC2012,SC2016,SC2119,SC2317 # tests are called by name; ls is what is tested
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"

view=$mnt/.snapshots
src=$work/source
random_file "$src" 4
src_hash=$(hash_of "$src")
fs=$work/fs
mkdir "$fs"

snap() { "$vpool" snapshot "$@"; }
names_of() { json "$(snap list --json "$1")" '" ".join(s["name"] for s in d["snapshots"])'; }

mount_it() {
	"$vpool" mount "$pool" "$mnt" || return 1
	[[ ! -d $mnt/dir ]] || cd "$mnt"
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

# overwrite FILE MIB OFFSET_MIB: with bytes that were never there
overwrite() {
	dd if=/dev/urandom of="$1" bs=1M count="$2" seek="$3" conv=notrunc oflag=direct status=none
}

a_disk() { cp --sparse=never "$src" "$1"; }

# --- the command ------------------------------------------------------------------------------

a_snapshot_keeps_what_a_disk_was() {
	a_disk a.raw
	same "$(snap create --name one --comment "before the change" a.raw)" "/a.raw@one"
	overwrite a.raw 2 1
	[[ $(hash_of a.raw) != "$src_hash" ]]
	same "$(hash_of "$view/a.raw/one")" "$src_hash"
	snap create a.raw
	same "$(hash_of "$view/a.raw/one")" "$src_hash"
	said=$(snap list a.raw)
	says "before the change"
	same "$(wc -l <<<"$said")" 3
	said=$(snap info a.raw one)
	says "4194304 bytes"
	rm a.raw
	[[ ! -e $view/a.raw ]]
}

names_from_the_time_never_collide() {
	local i
	a_disk n.raw
	for i in 1 2 3 4; do
		snap create n.raw >/dev/null
	done
	same "$(names_of n.raw | wc -w)" 4
	names_of n.raw | tr ' ' '\n' | grep -Eq '^20[0-9]{2}-[0-9]{2}-[0-9]{2}T[0-9]{6}Z(-[0-9]+)?$'
	rm n.raw
}

documents_have_the_promised_keys() {
	local doc
	a_disk j.raw
	doc=$(snap create --json --name one --comment "äöü" --sticky j.raw)
	same "$(json "$doc" 'sorted(d["snapshots"][0])')" "['allocated_bytes', 'clones', 'comment', 'created', 'name', 'number', 'on_backend', 'path', 'schedule', 'size_bytes', 'sticky']"
	doc=$(snap list --json j.raw)
	same "$(json "$doc" '[(s["name"], s["size_bytes"], s["comment"], s["sticky"]) for s in d["snapshots"]]')" "[('one', 4194304, 'äöü', True)]"
	same "$(json "$doc" 'd["path"]')" /j.raw
	json "$doc" 'd["snapshots"][0]["created"]' | grep -q '^[0-9]*\.'
	same "$(json "$("$vpool" list --json "$mnt")" '[x["snapshots"] for x in d["disks"] if x["path"] == "/j.raw"]')" "[1]"
	same "$(json "$("$vpool" info --json j.raw)" 'd["snapshots"]')" 1
	same "$(json "$(snap info --json j.raw one)" 'd["name"]')" one
	same "$(json "$(snap rename --json j.raw one two)" 'd["name"]')" two
	same "$(json "$(snap sticky --json j.raw two off)" 'd["sticky"]')" False
	doc=$("$vpool" clone --json j.raw@two jc.raw)
	same "$(json "$doc" 'd["path"], d["size_bytes"], d["snapshots"]')" "('/jc.raw', 4194304, 0)"
	same "$(json "$doc" 'd["parent"], d["parent_snapshot"]')" "('/j.raw', 'two')"
	same "$(json "$("$vpool" list --json "$mnt")" '[x["parent"] for x in d["disks"]]')" "[None, '/j.raw']"
	same "$(json "$doc" 'd["inode"]')" "$(stat -c %i jc.raw)"
	same "$(json "$(snap delete --json j.raw two)" 'd["deleted"][0]["name"], d["failed"]')" "('two', [])"
	exits 4 "$vpool" snapshot info --json j.raw two
	same "$(json "$said" 'd["code"]')" 4
	rm j.raw jc.raw
}

wrong_use_is_told() {
	a_disk w.raw
	snap create --name one w.raw >/dev/null
	exits 2 "$vpool" snapshot
	exits 2 "$vpool" snapshot frob w.raw
	says "expected create"
	exits 2 "$vpool" snapshot list
	one_line
	exits 2 "$vpool" snapshot info w.raw
	says "expected info FILE NAME"
	exits 2 "$vpool" snapshot list w.raw --name x
	says "belong to create"
	exits 2 "$vpool" snapshot delete w.raw one --force
	exits 2 "$vpool" snapshot sticky w.raw one maybe
	exits 2 "$vpool" snapshot create "$mnt"
	says "not a file in a mount"
	exits 4 "$vpool" snapshot create "$work/source"
	exits 4 "$vpool" snapshot create none.raw
	exits 1 "$vpool" snapshot create dir
	says "not a regular file"
	exits 1 "$vpool" snapshot create "$view/w.raw/one"
	exits 1 "$vpool" snapshot create --name a/b w.raw
	exits 1 "$vpool" snapshot create --name one w.raw
	says "already"
	exits 2 "$vpool" snapshot create --comment $'\xff' w.raw
	exits 4 "$vpool" snapshot rename w.raw none two
	exits 4 "$vpool" snapshot rollback w.raw none
	exits 4 "$vpool" snapshot delete w.raw none
	exits 3 "$vpool" snapshot delete w.raw none one
	says "'none' is not deleted"
	same "$(names_of w.raw)" ""
	exits 4 "$vpool" clone w.raw@none x.raw
	exits 4 "$vpool" clone none.raw x.raw
	exits 1 "$vpool" clone w.raw w.raw
	exits 2 "$vpool" clone w.raw dir/
	exits 4 "$vpool" clone w.raw "$work/x.raw"
	[[ ! -e x.raw ]]
	rm w.raw
}

names_may_be_any_bytes() {
	local name=$'\xff@ b\n'
	a_disk b.raw
	snap create --name "$name" b.raw >/dev/null
	same "$(json "$(snap list --json b.raw)" 'd["snapshots"][0]["name_hex"]')" ff4020620a
	same "$(hash_of "$view/b.raw/$name")" "$src_hash"
	"$vpool" clone "b.raw@$name" "x@y.raw"
	same "$(hash_of x@y.raw)" "$src_hash"
	"$vpool" clone x@y.raw z.raw
	same "$(hash_of z.raw)" "$src_hash"
	snap rename b.raw "$name" plain
	same "$(names_of b.raw)" plain
	rm b.raw x@y.raw z.raw
}

a_group_is_one_moment() {
	a_disk g1.raw
	a_disk g2.raw
	# Two writers that take turns: in the second disk is never more than in the first.
	python3 - "$work/stop" <<-'END' &
		import os, sys
		a, b = (os.open(n, os.O_RDWR) for n in ("g1.raw", "g2.raw"))
		n = 0
		while not os.path.exists(sys.argv[1]):
		    n += 1
		    for fd in a, b:
		        os.pwrite(fd, n.to_bytes(8, "big"), 4096)
	END
	local writer=$! i one two
	for i in 1 2 3 4 5 6 7 8; do
		snap create --name "$i" g1.raw g2.raw >/dev/null
	done
	touch "$work/stop"
	wait "$writer"
	for i in 1 2 3 4 5 6 7 8; do
		one=$(dd if="$view/g1.raw/$i" bs=8 skip=512 count=1 status=none | xxd -p)
		two=$(dd if="$view/g2.raw/$i" bs=8 skip=512 count=1 status=none | xxd -p)
		((0x$one == 0x$two || 0x$one == 0x$two + 1)) || {
			echo "$i: $one in the first, $two in the second"
			return 1
		}
	done
	rm g1.raw g2.raw
}

waiting_brings_it_to_the_backend() {
	a_disk o.raw
	same "$(json "$(snap create --json --wait --name one o.raw)" 'd["snapshots"][0]["on_backend"]')" True
	snap list o.raw | grep -q ' yes '
	rm o.raw
}

pruning_leaves_what_the_rule_keeps() {
	local now
	now=$(date -u +%Y-%m-%dT%H%M%SZ)
	a_disk t1.raw
	a_disk dir/t2.raw
	snap create --name 2020-01-06T100000Z --sticky t1.raw >/dev/null
	snap create --name 2020-01-06T110000Z dir/t2.raw >/dev/null
	snap create --name 2020-01-06T120000Z t1.raw dir/t2.raw >/dev/null
	snap create --name 2020-01-06T120000Z-2 t1.raw >/dev/null
	snap create --name mine t1.raw >/dev/null
	snap create --name "$now" t1.raw >/dev/null
	same "$(snap prune --dry-run dir)" "would delete /dir/t2.raw@2020-01-06T110000Z"
	same "$(snap prune --dry-run "$mnt" | wc -l)" 3
	same "$(names_of t1.raw | wc -w)" 5
	same "$(snap prune t1.raw | sort)" "deleted /t1.raw@2020-01-06T120000Z
deleted /t1.raw@2020-01-06T120000Z-2"
	same "$(names_of t1.raw)" "2020-01-06T100000Z mine $now"
	same "$(names_of dir/t2.raw | wc -w)" 2
	same "$(json "$(snap prune --json "$pool")" 'len(d["deleted"]), d["kept"], d["dry_run"]')" "(1, 4, False)"
	same "$(names_of dir/t2.raw)" 2020-01-06T120000Z # the youngest
	exits 2 "$vpool" snapshot list t1.raw --dry-run
	exits 4 "$vpool" snapshot prune none.raw
	snap sticky t1.raw 2020-01-06T100000Z off
	rm t1.raw dir/t2.raw
}

# names_are FILE COUNT: so many, all made by a schedule
names_are() { [[ $(names_of "$1" | wc -w) == "$2" && $(names_of "$1" | grep -o -- '-hourly' | wc -l) == "$2" ]]; }

in_names() { [[ $(names_of "$1") == *$2* ]]; }

snapshots_are_made_by_a_schedule() {
	local doc
	mkdir h
	a_disk h/s1.raw
	a_disk h/s2.raw
	snap create --name 2020-01-06T110000Z-hourly h/s1.raw >/dev/null
	doc=$(snap schedule --json h --every hourly --keep "all:3 weekly:4w")
	same "$(json "$doc" 'd["path"], d["schedule"], d["schedule_from"], d["keep"], d["keep_from"]')" "('/h', 'hourly', '/h', 'all:3d weekly:28d', '/h')"
	json "$doc" 'd["next_snapshot"] % 3600' | grep -qx 0.0
	wait_for 20 names_are h/s2.raw 1
	# Nobody wrote the other one since; its only one is the youngest.
	same "$(names_of h/s1.raw)" 2020-01-06T110000Z-hourly
	overwrite h/s1.raw 1 0
	kill_it
	mount_it
	# What was missed is made up for, and the old one goes.
	wait_for 20 in_names h/s1.raw "$(date -u +%Y-)"
	wait_for 20 names_are h/s1.raw 1
	snap schedule h --keep all:1 >/dev/null
	names_are h/s2.raw 1
	said=$("$vpool" info h/s2.raw)
	says "hourly (/h)"
	same "$(json "$("$vpool" info --json h/s2.raw)" 'd["schedule"], d["schedule_from"], d["keep"]')" "('hourly', '/h', 'all:1d')"
	same "$(status_of "$mnt" 'd["schedule"]["disks"], d["schedule"]["trouble"]')" "(2, '')"
	same "$(json "$(snap list --json h/s2.raw)" 'd["snapshots"][0]["schedule"]')" hourly
	same "$(python3 -c 'import os; print(os.getxattr("h", "user.vpool.snapshot_schedule").decode())')" hourly
	same "$(json "$(snap schedule --json h --clear)" 'd["schedule"], d["schedule_from"], d["next_snapshot"]')" "('off', None, None)"
	exits 2 "$vpool" snapshot schedule h --every sometimes
	says "expected off, hourly"
	exits 2 "$vpool" snapshot schedule h --keep nothing
	exits 2 "$vpool" snapshot list h/s1.raw --keep all:1
	says "belong to schedule"
	rm -r h
}

scrubbed() { json "$1" 'd["state"], d["trouble"], d["scos_deleted"] > 0, d["bytes_freed"] > 0'; }

a_scrub_gives_back_what_is_dead() {
	local doc
	random_file u.raw 64
	"$vpool" sync .
	# Half of each container.
	overwrite u.raw 8 8
	overwrite u.raw 8 24
	overwrite u.raw 8 40
	overwrite u.raw 8 56
	"$vpool" sync .
	doc=$("$vpool" scrub --json --dry-run .)
	same "$(json "$doc" 'd["dry_run"], d["scos_shrunk"] >= 4, d["bytes_freed"] >= 24 << 20, d["trouble"]')" "(True, True, True, '')"
	same "$(json "$("$vpool" status --json .)" 'd["scrub"]["state"]')" none
	cp u.raw "$work/u"
	same "$(scrubbed "$("$vpool" scrub --json --wait .)")" "('done', '', True, True)"
	same "$(json "$("$vpool" scrub --json --dry-run .)" 'd["scos_shrunk"], d["scos_deleted"]')" "(0, 0)"
	said=$("$vpool" status .)
	says "scrub       done"
	cmp u.raw "$work/u"
	exits 2 "$vpool" scrub --wait --cancel .
	"$vpool" scrub . >/dev/null
	"$vpool" scrub --cancel . >/dev/null
	rm u.raw "$work/u"
}

# --- rollback ---------------------------------------------------------------------------------

a_scrub_does_not_hold_up_a_stop() {
	local start_ms i
	# It may end by itself before.
	for i in {1..5}; do
		overwrite g.raw 16 0
		sync g.raw
		"$vpool" scrub "$mnt" >/dev/null
		start_ms=$(now_ms)
		umount_it
		(($(now_ms) - start_ms < 20000))
		mount_it
		grep -q 'scrub ended: cancelled=1' "$pool/vpool.log" && break
	done
	grep -q 'scrub ended: cancelled=1' "$pool/vpool.log"
	rm g.raw
}

a_disk_goes_back_to_what_it_was() {
	a_disk r.raw
	snap create --name one r.raw >/dev/null
	overwrite r.raw 4 2
	snap create --name two r.raw >/dev/null
	truncate -s 1M r.raw
	exits 1 "$vpool" snapshot rollback r.raw one
	says "younger"
	says "--force"
	same "$(stat -c %s r.raw)" 1048576
	snap rollback r.raw two
	same "$(stat -c %s r.raw)" 6291456
	snap rollback --force r.raw one
	same "$(hash_of r.raw)" "$src_hash"
	same "$(names_of r.raw)" one
	same "$(stat -c %s r.raw)" 4194304
	overwrite r.raw 1 1
	snap rollback r.raw one
	same "$(hash_of r.raw)" "$src_hash"
	rm r.raw
}

an_open_disk_is_left_alone_unless_forced() {
	a_disk p.raw
	snap create --name one p.raw >/dev/null
	overwrite p.raw 2 0
	exec 8<>p.raw
	exits 5 "$vpool" snapshot rollback p.raw one
	says "open"
	snap rollback --force p.raw one
	same "$(hash_of /dev/fd/8)" "$src_hash"
	printf after >&8
	exec 8>&-
	same "$(head -c 5 p.raw)" after
	rm p.raw
}

who_appends_goes_on_at_the_end_that_is_there_now() {
	local file
	for file in s.raw s.txt; do
		printf before >"$file"
		exec 8>>"$file"
		snap create --name one "$file" >/dev/null
		printf ', lost' >&8
		snap rollback --force "$file" one
		printf ', behind' >&8
		exec 8>&-
		same "$(<"$file")" "before, behind"
		rm "$file"
	done
}

nothing_stale_stays_in_the_page_cache() {
	cp /etc/services plain
	snap create --name one plain >/dev/null
	tac /etc/services >plain
	echo more >>plain
	cat plain >/dev/null
	exec 8<plain
	cat <&8 >/dev/null
	snap rollback --force plain one
	cmp plain /etc/services
	cmp "/proc/self/fd/8" /etc/services
	exec 8<&-
	rm plain
}

# --- .snapshots -------------------------------------------------------------------------------

the_view_is_there_and_not_listed() {
	a_disk dir/v.raw
	chmod 640 dir/v.raw
	snap create --name one dir/v.raw >/dev/null
	same "$(find "$mnt" -maxdepth 1 -name .snapshots)" ""
	same "$(cd "$view" && find . -path './dir*' | sort | tr '\n' ' ')" "./dir ./dir/v.raw ./dir/v.raw/one "
	same "$(stat -c '%a %s' "$view/dir/v.raw/one")" "440 4194304"
	cp "$view/dir/v.raw/one" "$work/back"
	same "$(hash_of "$work/back")" "$src_hash"
	cmp dir/v.raw "$view/dir/v.raw/one"
	same "$(dd if="$view/dir/v.raw/one" bs=64K iflag=direct status=none | sha256sum | cut -d ' ' -f 1)" "$src_hash"
	same "$(dd if="$view/dir/v.raw/one" bs=1000 iflag=direct status=none | sha256sum | cut -d ' ' -f 1)" "$src_hash"
	snap rename dir/v.raw one uno
	same "$(ls "$view/dir/v.raw")" uno
	mv dir/v.raw w.raw
	same "$(ls "$view/w.raw")" uno
	[[ ! -e $view/dir/v.raw ]]
	rm w.raw "$work/back"
}

the_view_is_read_only() {
	local at=$view/ro.raw
	a_disk ro.raw
	snap create --name one ro.raw >/dev/null
	refused "Read-only" touch "$at/new"
	refused "Read-only" rm -f "$at/one"
	refused "Read-only" mv "$at/one" "$at/two"
	refused "Read-only" rmdir "$at"
	refused "Read-only" rmdir "$view"
	refused "Read-only" mkdir "$view/x"
	refused "Read-only" chmod 777 "$at/one"
	refused "Read-only" truncate -s 0 "$at/one"
	refused "Read-only" mv ro.raw "$view/other"
	refused "File exists" mkdir "$view"
	refused EROFS "$probe" setxattr "$at/one" user.x y any
	rm ro.raw
}

who_may_not_read_a_disk_may_not_read_its_snapshots() {
	a_disk dir/secret.raw
	chmod 600 dir/secret.raw
	snap create --name one dir/secret.raw >/dev/null
	same "$(stat -c %a "$view/dir/secret.raw/one")" 400
	same "$(stat -c %a "$view/dir/secret.raw")" 500
	rm dir/secret.raw
}

a_disk_image_is_compared_with_its_snapshot() {
	a_disk q.raw
	snap create --name one q.raw >/dev/null
	qemu-img compare -f raw -F raw q.raw "$view/q.raw/one"
	overwrite q.raw 1 2
	exits 1 qemu-img compare -f raw -F raw q.raw "$view/q.raw/one"
	says mismatch
	rm q.raw
}

a_filesystem_in_a_snapshot_is_mounted_while_its_disk_is_written() {
	local dev
	truncate -s 64M e.raw
	mkfs.ext4 -q -F e.raw
	mount -o loop e.raw "$fs"
	cp -r /etc/default "$fs/kept"
	sync -f "$fs"
	snap create --name one e.raw >/dev/null
	rm -r "$fs/kept"
	random_file "$fs/other" 20
	sync -f "$fs"
	dev=$(losetup -f --show "$view/e.raw/one")
	mkdir -p "$work/fs2"
	mount -o ro,noload "$dev" "$work/fs2"
	random_file "$fs/other2" 10 &
	diff -r --no-dereference /etc/default "$work/fs2/kept"
	wait $!
	[[ ! -e $fs/kept && ! -e $work/fs2/other ]]
	umount "$work/fs2"
	losetup -d "$dev"
	umount "$fs"
	e2fsck -fn e.raw >/dev/null
	rm e.raw
}

an_open_snapshot_is_read_to_its_end() {
	a_disk h.raw
	snap create --name one h.raw >/dev/null
	exec 8<"$view/h.raw/one"
	snap delete h.raw one
	overwrite h.raw 4 0
	same "$(hash_of /dev/fd/8)" "$src_hash"
	exec 8<&-
	[[ ! -e $view/h.raw ]]
	rm h.raw
}

handles_of_snapshots_outlive_the_daemon() {
	echo behind >s.raw
	snap create --name one s.raw >/dev/null
	echo another >s.raw
	"$probe" handle "$view/s.raw/one" "$work/handle"
	umount_it
	mount_it
	same "$("$probe" by-handle "$mnt" "$work/handle")" behind
	snap delete s.raw one
	echo 3 >/proc/sys/vm/drop_caches
	refused ESTALE "$probe" by-handle "$mnt" "$work/handle"
	rm s.raw
}

# --- clones -----------------------------------------------------------------------------------

clones_go_their_own_ways() {
	a_disk c.raw
	chmod 600 c.raw
	snap create --name one c.raw >/dev/null
	overwrite c.raw 2 0
	[[ ! -e dir/c1.raw ]] # the kernel knows now that there is none
	"$vpool" clone c.raw@one dir/c1.raw
	"$vpool" clone c.raw dir/c2.raw
	"$vpool" clone "$view/c.raw/one" dir/c3.raw
	same "$(stat -c %a dir/c1.raw)" 600
	same "$(hash_of dir/c1.raw)" "$src_hash"
	cmp c.raw dir/c2.raw
	overwrite dir/c1.raw 1 3
	same "$(hash_of dir/c3.raw)" "$src_hash"
	same "$(hash_of "$view/c.raw/one")" "$src_hash"
	truncate -s 2M dir/c2.raw
	truncate -s 4M dir/c2.raw
	same "$(tail -c 2M dir/c2.raw | tr -d '\0' | wc -c)" 0
	rm c.raw
	same "$(hash_of dir/c3.raw)" "$src_hash"
	rm dir/c1.raw
	same "$(hash_of dir/c3.raw)" "$src_hash"
	rm dir/c2.raw dir/c3.raw
}

copies_of_whole_disks_are_clones() {
	a_disk k.raw
	snap create --name one k.raw >/dev/null
	overwrite k.raw 1 0
	"$vpool" sync "$mnt"
	cp --sparse=never k.raw k1.raw
	cp --sparse=never "$view/k.raw/one" k2.raw
	"$probe" copy k.raw 0 k3.raw 0 3000001
	cmp k.raw k1.raw
	same "$(hash_of k2.raw)" "$src_hash"
	cmp -n 3000001 k.raw k3.raw
	same "$(stat -c %s k3.raw)" 3000001
	truncate -s 4000000 k3.raw
	same "$(tail -c 999999 k3.raw | tr -d '\0' | wc -c)" 0
	# What is copied into the middle, or out of it, is bytes.
	"$probe" copy k.raw 1000003 k1.raw 2000001 1500000
	cp "$src" "$work/k1"
	dd if=k.raw of="$work/k1" bs=1M count=1 conv=notrunc status=none
	dd if=k.raw of="$work/k1" bs=1M iflag=skip_bytes,count_bytes oflag=seek_bytes skip=1000003 \
		seek=2000001 count=1500000 conv=notrunc status=none
	cmp k1.raw "$work/k1"
	umount_it
	mount_it
	cmp k1.raw "$work/k1"
	same "$(hash_of k2.raw)" "$src_hash"
	cmp -n 3000001 k.raw k3.raw
	rm k.raw k1.raw k2.raw k3.raw "$work/k1"
}

parent_of() { json "$("$vpool" info --json "$1")" 'd["parent"], d["parent_snapshot"]'; }

writes_so_far() { json "$("$vpool" stats --json "$mnt")" 'd["counters"]["volume.writes"]'; }

a_copy_in_several_calls_stays_one_clone() {
	local at writes
	# The kernel cuts calls at 4 GiB - 4 KiB.
	truncate -s 13G l.raw
	for at in 0 4095 4096 8190 12000 13311; do
		overwrite l.raw 1 "$at"
	done
	writes=$(writes_so_far)
	"$probe" copy l.raw 0 l1.raw 0 13G
	"$probe" copy l.raw 0 l2.raw 0 9000000001
	same "$(writes_so_far)" "$writes" "bytes were copied"
	same "$(stat -c %s l1.raw l2.raw | tr '\n' ' ')" "13958643712 9000000001 "
	same "$(parent_of l1.raw)" "('/l.raw', None)"
	same "$(parent_of l2.raw)" "('/l.raw', None)"
	umount_it
	mount_it
	for at in 0 4095 4096 8190 12000 13311; do
		cmp -i $((at << 20)) -n 1048576 l.raw l1.raw
		((at > 8200)) || cmp -i $((at << 20)) -n 1048576 l.raw l2.raw
	done
	truncate -s 13G l2.raw
	refused ENXIO "$probe" seek data l2.raw 9G
	rm l.raw l1.raw l2.raw
}

a_copy_has_what_was_written_before_each_call() {
	a_disk m.raw
	truncate -s 100M m.raw
	# Only the second half of the source changes, in between.
	python3 - <<-'END'
		import os
		a, b = os.open("m.raw", os.O_RDWR), os.open("m1.raw", os.O_RDWR | os.O_CREAT)
		half = 50 << 20
		done = 0
		while done < half:
		    done += os.copy_file_range(a, b, half - done, done, done)
		os.pwrite(a, b"later", 60 << 20)
		while done < 2 * half:
		    done += os.copy_file_range(a, b, 2 * half - done, done, done)
	END
	cmp m.raw m1.raw
	rm m.raw m1.raw
}

a_clone_that_was_written_is_not_made_longer() {
	a_disk m.raw
	truncate -s 100M m.raw
	printf end | dd of=m.raw bs=1M seek=99 conv=notrunc status=none
	# In one process: first half, a write into it, second half.
	python3 - <<-'END'
		import os
		a, b = os.open("m.raw", os.O_RDWR), os.open("m1.raw", os.O_RDWR | os.O_CREAT)
		half = 50 << 20
		done = 0
		while done < half:
		    done += os.copy_file_range(a, b, half - done, done, done)
		os.pwrite(b, b"changed", 1000000)
		os.pwrite(a, b"changed", 1000000)
		os.pwrite(a, b"later", 60 << 20)
		while done < 2 * half:
		    done += os.copy_file_range(a, b, 2 * half - done, done, done)
	END
	cmp m.raw m1.raw
	rm m.raw m1.raw
}

parts_of_a_copy_are_shared() {
	local writes
	head -c 64M /dev/urandom >"$work/p"
	cp "$work/p" p.raw
	truncate -s 16M p1.raw
	# What the backend does not have yet is copied, byte by byte.
	writes=$(writes_so_far)
	"$probe" copy p.raw 0 p2.raw 4M 2M
	(($(writes_so_far) > writes)) || return 1
	cmp -i 0:4M -n 2M p.raw p2.raw
	"$vpool" sync "$mnt"
	writes=$(writes_so_far)
	"$probe" copy p.raw 1M p1.raw 20M 40M
	"$probe" copy p1.raw 20M p1.raw 3M 10M
	same "$(writes_so_far)" "$writes" "bytes were copied"
	# Where the two do not begin alike in their clusters, bytes are.
	"$probe" copy p.raw 1000 p1.raw 64M 2M
	cmp -i 1M:20M -n 40M p.raw p1.raw
	cmp -i 1M:3M -n 10M p.raw p1.raw
	cmp -i 1000:64M -n 2M p.raw p1.raw
	overwrite p.raw 30 10
	cmp -i 1M:20M -n 40M "$work/p" p1.raw
	rm p.raw p2.raw
	kill_it
	mount_it
	cmp -i 1M:20M -n 40M "$work/p" p1.raw
	cmp -i 1M:3M -n 10M "$work/p" p1.raw
	cp p1.raw "$work/p1"
	umount_it
	said=$("$vpool" check --data "$pool")
	says "0 errors"
	"$root/tests/walker/walk.py" "$pool" >"$work/walked" || {
		cat "$work/walked"
		return 1
	}
	mount_it
	cmp p1.raw "$work/p1"
	rm p1.raw "$work/p" "$work/p1"
}

# --- crashes ----------------------------------------------------------------------------------

snapshots_and_clones_survive_a_stop_and_a_kill() {
	a_disk x.raw
	snap create --name one --comment kept x.raw >/dev/null
	overwrite x.raw 2 2
	"$vpool" clone x.raw y.raw
	snap create --name two --sticky x.raw y.raw >/dev/null
	overwrite y.raw 1 0
	cp x.raw "$work/x"
	cp y.raw "$work/y"
	kill_it
	mount_it
	same "$(names_of x.raw)" "one two"
	cmp x.raw "$work/x"
	cmp y.raw "$work/y"
	cmp "$view/y.raw/two" "$work/x"
	same "$(hash_of "$view/x.raw/one")" "$src_hash"
	umount_it
	said=$("$vpool" check --data "$pool")
	says "0 errors"
	mount_it
	cmp "$view/y.raw/two" "$work/x"
	snap rollback x.raw one --force
	snap sticky y.raw two off
	kill_it
	mount_it
	same "$(hash_of x.raw)" "$src_hash"
	same "$(names_of x.raw)" one
	same "$(json "$(snap info --json x.raw one)" 'd["comment"]')" kept
	cmp y.raw "$work/y"
	rm x.raw y.raw "$work/x" "$work/y"
}

# clusters FILE EACH SEED: one in each 2 MiB of 4 GiB, of every EACH-th; without SEED: their hash
clusters() {
	python3 - "$@" <<'END'
import hashlib, os, sys

step = int(sys.argv[2])
fd = os.open(sys.argv[1], os.O_RDWR if len(sys.argv) > 3 else os.O_RDONLY)
total = hashlib.sha256()
for i in range(0, 2048, step):
    if len(sys.argv) > 3:
        data = hashlib.shake_128(b"%s %d" % (sys.argv[3].encode(), i)).digest(4096)
        os.pwrite(fd, data, i << 21)
    total.update(os.pread(fd, 8192, i << 21))
if len(sys.argv) > 3:
    os.fsync(fd)
print(total.hexdigest())
END
}

trimmed() { [[ $(json "$("$vpool" stats --json "$mnt")" 'd["counters"]["volume.trimmed_clusters"]') -ge $1 ]]; }

a_large_old_layer_stays_and_what_is_hidden_goes() {
	local one two three now
	truncate -s 4G w.raw
	one=$(clusters w.raw 1 one)
	snap create --name one w.raw >/dev/null
	clusters w.raw 20 two >/dev/null
	two=$(clusters w.raw 1)
	snap create --name two w.raw >/dev/null
	clusters w.raw 50 three >/dev/null
	three=$(clusters w.raw 1)
	snap create --name three w.raw >/dev/null
	clusters w.raw 30 now >/dev/null
	now=$(clusters w.raw 1)
	same "$(clusters "$view/w.raw/one" 1)" "$one"
	snap delete w.raw one
	wait_for 30 trimmed 100
	same "$(clusters "$view/w.raw/two" 1)" "$two"
	snap delete w.raw two
	some_time
	kill_it
	mount_it
	same "$(clusters w.raw 1)" "$now"
	same "$(clusters "$view/w.raw/three" 1)" "$three"
	snap delete w.raw three
	kill_it
	mount_it
	same "$(clusters w.raw 1)" "$now"
	umount_it
	said=$("$vpool" check --data "$pool")
	says "0 errors"
	mount_it
	same "$(clusters w.raw 1)" "$now"
	rm w.raw
}

snapshots_rotate_under_a_load_that_verifies() {
	local i load
	truncate -s 16M f.raw
	fio --name=job --filename=f.raw --size=16M --rw=randwrite --bs=4k --ioengine=libaio \
		--iodepth=16 --direct=1 --verify=crc32c --verify_fatal=1 --do_verify=1 --loops=4 \
		--time_based=0 --randrepeat=0 --output="$work/fio" &
	load=$!
	for i in {1..10}; do
		snap create --name "$i" f.raw >/dev/null
		((i <= 3)) || snap delete f.raw $((i - 3))
		cat "$view/f.raw/$i" >/dev/null
	done
	wait "$load" || {
		tail -n 20 "$work/fio"
		return 1
	}
	same "$(names_of f.raw)" "8 9 10"
	rm f.raw
}

in_order() {
	if "$1" >"$work/out" 2>&1; then return 0; fi
	cat "$work/out"
	return 1
}

create_pool
in_order mount_it
mkdir "$mnt/dir"
test_it a_snapshot_keeps_what_a_disk_was
test_it names_from_the_time_never_collide
test_it documents_have_the_promised_keys
test_it wrong_use_is_told
test_it names_may_be_any_bytes
test_it a_group_is_one_moment
test_it waiting_brings_it_to_the_backend
test_it pruning_leaves_what_the_rule_keeps
test_it snapshots_are_made_by_a_schedule
# It counts on SCOs of the usual size.
[[ -n $store ]] || test_it a_scrub_gives_back_what_is_dead
test_it a_scrub_does_not_hold_up_a_stop
test_it a_disk_goes_back_to_what_it_was
test_it an_open_disk_is_left_alone_unless_forced
test_it who_appends_goes_on_at_the_end_that_is_there_now
test_it nothing_stale_stays_in_the_page_cache
test_it the_view_is_there_and_not_listed
test_it the_view_is_read_only
test_it who_may_not_read_a_disk_may_not_read_its_snapshots
test_with qemu-img a_disk_image_is_compared_with_its_snapshot
test_with mkfs.ext4 a_filesystem_in_a_snapshot_is_mounted_while_its_disk_is_written
test_it an_open_snapshot_is_read_to_its_end
test_it handles_of_snapshots_outlive_the_daemon
test_it clones_go_their_own_ways
test_it copies_of_whole_disks_are_clones
test_it a_copy_in_several_calls_stays_one_clone
test_it a_copy_has_what_was_written_before_each_call
test_it a_clone_that_was_written_is_not_made_longer
test_it parts_of_a_copy_are_shared
test_it snapshots_and_clones_survive_a_stop_and_a_kill
test_it a_large_old_layer_stays_and_what_is_hidden_goes
test_with fio snapshots_rotate_under_a_load_that_verifies
umount_it
finish
