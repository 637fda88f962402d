#!/usr/bin/env bash
# What POSIX promises of names, attributes and files, on a real mount.
# shellcheck disable=SC2012,SC2016,SC2119,SC2317 # tests are called by name; ls is what is tested
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"

a_file_keeps_what_was_written() {
	echo hello >a
	same "$(cat a)" hello
	echo more >>a
	same "$(cat a)" $'hello\nmore'
	same "$(stat -c %s a)" 11
	: >a
	same "$(stat -c %s a)" 0
}

bytes_at_odd_offsets_are_where_they_were_put() {
	printf x | dd of=odd bs=1 seek=12345 conv=notrunc status=none
	printf yz | dd of=odd bs=1 seek=4095 conv=notrunc status=none
	same "$(stat -c %s odd)" 12346
	same "$(dd if=odd bs=1 skip=4095 count=2 status=none)" yz
	same "$(tail -c 1 odd)" x
	same "$(head -c 4095 odd | tr -d '\0' | wc -c)" 0
}

# One byte, and a MiB, where nothing is aligned: in files and in disks, cached and direct.
odd_sizes_at_odd_offsets_arrive() {
	local name flags at
	random_file "$work/mib" 1
	for name in odd.raw oddfile; do
		for flags in seek_bytes seek_bytes,direct; do
			# A plain file goes through the page cache: direct I/O there must be aligned.
			[[ $flags == *direct && $name != *.raw ]] && continue
			rm -f "$name" "$work/odd"
			for at in 1 4095 4097 65537 1048575 3333333 7777777; do
				dd if="$work/mib" of="$work/odd" bs=1M count=1 seek="$at" oflag=seek_bytes \
					conv=notrunc status=none
				dd if="$work/mib" of="$name" bs=1M count=1 seek="$at" conv=notrunc status=none \
					oflag="$flags"
				printf %s "${at:0:1}" | dd of="$work/odd" bs=1 seek=$((at * 2 + 1)) conv=notrunc status=none
				printf %s "${at:0:1}" | dd of="$name" bs=1 seek=$((at * 2 + 1)) conv=notrunc status=none
			done
			cmp "$name" "$work/odd"
			# And read so.
			dd if="$work/odd" bs=333333 skip=12345 iflag=skip_bytes status=none >"$work/want"
			dd if="$name" bs=333333 skip=12345 iflag=skip_bytes status=none | cmp - "$work/want"
		done
	done
	rm odd.raw oddfile "$work"/{odd,mib,want}
}

directories_are_made_and_removed() {
	mkdir -p d/e/f
	same "$(stat -c %h d)" 3
	refused "not empty" rmdir d
	refused "File exists" mkdir d
	rmdir d/e/f d/e
	same "$(stat -c %h d)" 2
	rmdir d
	[[ ! -e d ]]
	refused "Not a directory" mkdir odd/x
}

renames_replace_and_refuse_as_they_should() {
	mkdir r
	echo 1 >r/one
	echo 2 >r/two
	mv -f r/one r/two
	same "$(cat r/two)" 1
	[[ ! -e r/one ]]
	echo 3 >r/three
	refused EEXIST "$probe" rename noreplace r/two r/three
	"$probe" rename exchange r/two r/three
	same "$(cat r/two)$(cat r/three)" 31
	mkdir r/sub r/full
	: >r/full/x
	refused EISDIR "$probe" rename plain r/two r/sub
	refused ENOTDIR "$probe" rename plain r/sub r/two
	refused ENOTEMPTY "$probe" rename plain r/sub r/full
	refused EINVAL "$probe" rename plain r r/sub/r
	mkdir s
	mv r/full s/full
	same "$(ls s)" full
	same "$(stat -c %h r s | tr '\n' ' ')" "3 3 "
	same "$(cd s/full/.. && ls)" full
	rm -r r s
}

a_file_is_used_after_its_name_is_gone() {
	"$probe" unlinked gone
	[[ ! -e gone ]]
	"$probe" unlinked gone.raw
	[[ ! -e gone.raw ]]
}

hard_links_are_one_file() {
	echo text >h1
	ln h1 h2
	same "$(stat -c %h h1)" 2
	same "$(stat -c %i h1)" "$(stat -c %i h2)"
	echo more >>h2
	same "$(cat h1)" $'text\nmore'
	rm h1
	same "$(stat -c %h h2)" 1
	mkdir hd
	refused "hard link not allowed" ln hd hd2
	rm h2
	rmdir hd
}

symbolic_links_hold_any_target() {
	local long
	ln -s /nowhere/at/all s1
	same "$(readlink s1)" /nowhere/at/all
	same "$(stat -c %s s1)" 15
	long=$(printf 'x%.0s' $(seq 4000))
	ln -s "$long" s2
	same "$(readlink s2)" "$long"
	echo through >real
	ln -s real s3
	same "$(cat s3)" through
	rm s1 s2 s3 real
}

# is_among TEXT TEXT...
is_among() {
	local one=$1 other
	shift
	for other in "$@"; do
		[[ $one == "$other" ]] && return 0
	done
	return 1
}

names_may_be_any_bytes() {
	local n255 odd
	n255=$(printf 'n%.0s' $(seq 255))
	echo 255 >"$n255"
	same "$(cat "$n255")" 255
	refused "File name too long" touch "${n255}x"
	for odd in $'new\nline' $'\xff\xfe not utf8' 'gr\xc3\xbcn' ' ' '...' $'\x01' '*' '"'; do
		echo "$odd" >"$odd"
	done
	for odd in $'new\nline' $'\xff\xfe not utf8' 'gr\xc3\xbcn' ' ' '...' $'\x01' '*' '"'; do
		same "$(cat "$odd")" "$odd"
		rm "./$odd"
	done
	rm "$n255"
	# All 255 bytes that are no letters: newlines, and no UTF-8.
	n255=$(printf '\n\377\001%.0s' $(seq 85))x
	n255=${n255%x}
	for odd in "$n255" "${n255:0:251}.raw"; do
		echo here >"$odd"
		same "$(cat "$odd")" here
		mv "$odd" plain
		mv plain "$odd"
		is_among "./$odd" ./*
		rm "$odd"
	done
}

modes_and_owners_are_kept() {
	touch m
	chmod 4751 m
	chown 1234:5678 m
	same "$(stat -c '%u:%g' m)" 1234:5678
	same "$(stat -c %a m)" 751 "chown takes the set-user-ID bit away"
	chmod 0 m
	same "$(stat -c %a m)" 0
	(umask 027 && touch um && mkdir umd)
	same "$(stat -c '%a' um umd | tr '\n' ' ')" "640 750 "
	mkdir sg
	chgrp 77 sg
	chmod g+s sg
	mkdir sg/d
	touch sg/f
	same "$(stat -c '%g %A' sg/d)" "77 drwxr-sr-x"
	same "$(stat -c %g sg/f)" 77
	rm -r m um umd sg
}

times_have_nanoseconds_and_move_when_they_should() {
	local before after
	touch -d '2001-02-03 04:05:06.123456789' t
	same "$(TZ=UTC stat -c %y t)" "$(TZ=UTC date -d '2001-02-03 04:05:06.123456789' '+%F %T.%N %z')"
	touch -a -d '1969-01-01 00:00:00.5 UTC' t
	same "$(stat -c %X t)" -31536000
	before=$(stat -c %.Y t)
	echo x >>t
	after=$(stat -c %.Y t)
	[[ $before != "$after" ]]
	[[ ${after%.*} -gt 1700000000 ]]
	mkdir td
	before=$(stat -c '%.Y' td)
	touch td/x
	[[ $before != "$(stat -c '%.Y' td)" ]]
	before=$(stat -c '%.Z' t)
	chmod 600 t
	[[ $before != "$(stat -c '%.Z' t)" ]]
	# Explicit times hold until the next write, also on a disk that is written directly.
	touch -d @1000000000 t.raw
	same "$(stat -c %Y t.raw)" 1000000000
	dd if=/dev/zero of=t.raw bs=4096 count=1 oflag=direct conv=notrunc status=none
	[[ $(stat -c %Y t.raw) -gt 1700000000 ]]
	touch -d @1000000000 t.raw
	same "$(stat -c %Y t.raw)" 1000000000
	rm -r t td t.raw
}

extended_attributes_are_kept() {
	touch x
	"$probe" setxattr x user.one first any
	same "$("$probe" getxattr x user.one)" first
	refused EEXIST "$probe" setxattr x user.one again create
	"$probe" setxattr x user.one again replace
	refused ENODATA "$probe" setxattr x user.two again replace
	"$probe" setxattr x user.big "$(head -c 48000 /dev/zero | tr '\0' b)" any
	same "$("$probe" getxattr x user.big | wc -c)" 48000
	"$probe" setxattr x user.empty "" any
	same "$("$probe" listxattr x | sort | tr '\n' ' ')" "user.big user.empty user.one "
	"$probe" rmxattr x user.one
	refused ENODATA "$probe" getxattr x user.one
	refused ENODATA "$probe" rmxattr x user.one
	mkdir xd
	"$probe" setxattr xd trusted.dir yes any
	same "$("$probe" getxattr xd trusted.dir)" yes
	rm -r x xd
}

special_files_are_made() {
	mkfifo fifo
	mknod dev c 5 1
	mknod blk b 7 300
	same "$(stat -c '%F' fifo)" fifo
	same "$(stat -c '%F %t:%T' dev)" "character special file 5:1"
	same "$(stat -c '%F %t:%T' blk)" "block special file 7:12c"
	(echo through >fifo &)
	same "$(cat fifo)" through
	rm fifo dev blk
}

shared_mappings_of_files_and_disks_are_written() {
	truncate -s 16K map map.raw
	"$probe" mmap map 5000 mapped
	same "$(dd if=map bs=1 skip=5000 count=6 status=none)" mapped
	"$probe" mmap map.raw 5000 mapped
	same "$(dd if=map.raw bs=4096 skip=1 count=1 iflag=direct status=none | tail -c +905 | head -c 6)" \
		mapped
	rm map map.raw
}

unknown_ioctls_are_told_so() {
	touch i
	refused ENOTTY "$probe" ioctl i
	refused ENOTTY "$probe" ioctl .
	rm i
}

a_full_directory_is_listed_once_and_emptied_while_read() {
	mkdir many
	"$probe" fill many 5000
	same "$(find many -type f | wc -l)" 5000
	same "$(find many -type f | sort -u | wc -l)" 5000
	same "$(ls -l many | wc -l)" 5001
	same "$("$probe" empty many)" 5000
	same "$(ls -A many)" ""
	rmdir many
}

a_directory_of_a_hundred_thousand_files_is_listed_and_searched() {
	mkdir crowd
	"$probe" fill crowd 100000
	same "$(find crowd -type f | wc -l)" 100000
	same "$(ls -U crowd | sort -u | wc -l)" 100000
	stat crowd/0 crowd/50000 crowd/99999 >/dev/null
	refused "No such file" stat crowd/100000
	mv crowd/77777 crowd/moved
	refused "No such file" stat crowd/77777
	same "$("$probe" empty crowd)" 100000
	rmdir crowd
}

handles_outlive_the_kernels_memory() {
	mkdir -p hd/deep
	echo behind >hd/deep/file
	"$probe" handle hd/deep/file "$work/handle"
	echo 2 >/proc/sys/vm/drop_caches
	same "$("$probe" by-handle "$mnt" "$work/handle")" behind
}

handles_outlive_the_daemon() {
	same "$("$probe" by-handle "$mnt" "$work/handle")" behind
	rm -r hd
	refused ESTALE "$probe" by-handle "$mnt" "$work/handle"
}

the_filesystem_tells_its_size() {
	same "$(stat -f -c '%s %l' .)" "4096 255"
	[[ $(stat -f -c %b .) -gt 0 ]]
	[[ $(stat -f -c %a .) -le $(stat -f -c %b .) ]]
}

others_are_kept_out_by_modes() {
	mkdir private
	echo secret >private/file
	chmod 700 private
	refused "ermission denied" setpriv --reuid 65534 --clear-groups cat private/file
	rm -r private
}

a_tree_with_everything() {
	mkdir -p keep/dir
	echo content >keep/dir/file
	ln keep/dir/file keep/link
	ln -s dir/file keep/symlink
	"$probe" setxattr keep/dir/file user.kept yes any
	touch -d @1234567890.987654321 keep/dir/file
	chmod 640 keep/dir/file
	chown 12:34 keep/dir/file
	mkfifo keep/fifo
	sync -f .
}

a_tree_with_everything_is_there_after_a_remount() {
	same "$(cat keep/symlink)" content
	same "$(stat -c '%a %u:%g %h %.9Y' keep/link)" "640 12:34 2 1234567890.987654321"
	same "$("$probe" getxattr keep/link user.kept)" yes
	same "$(stat -c %F keep/fifo)" fifo
	same "$(ls keep | tr '\n' ' ')" "dir fifo link symlink "
	rm -r keep
}

mount_pool || exit 1
test_it a_file_keeps_what_was_written
test_it bytes_at_odd_offsets_are_where_they_were_put
test_it odd_sizes_at_odd_offsets_arrive
test_it directories_are_made_and_removed
test_it renames_replace_and_refuse_as_they_should
test_it a_file_is_used_after_its_name_is_gone
test_it hard_links_are_one_file
test_it symbolic_links_hold_any_target
test_it names_may_be_any_bytes
test_it modes_and_owners_are_kept
test_it times_have_nanoseconds_and_move_when_they_should
test_it extended_attributes_are_kept
test_it special_files_are_made
test_it shared_mappings_of_files_and_disks_are_written
test_it unknown_ioctls_are_told_so
test_it a_full_directory_is_listed_once_and_emptied_while_read
test_it a_directory_of_a_hundred_thousand_files_is_listed_and_searched
test_it handles_outlive_the_kernels_memory
test_it the_filesystem_tells_its_size
test_it others_are_kept_out_by_modes
test_it a_tree_with_everything
if remount_pool; then
	test_it a_tree_with_everything_is_there_after_a_remount
	test_it handles_outlive_the_daemon
else
	failed=$((failed + 1))
	echo "FAILED: unmount and mount again"
fi
umount_pool || failed=$((failed + 1))
finish
