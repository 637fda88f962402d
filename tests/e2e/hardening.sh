#!/usr/bin/env bash
# What an attacker, or a mistake, finds closed: the program's own armour, files of a pool and their
# modes, links planted in it, keys in memory; and a life as an ordinary user, under a service manager,
# in fstab.
# shellcheck disable=SC2317,SC2016 # tests are called by name; other programs have their own dollars
# shellcheck source=lib.sh

# In mounts of its own: /dev/fuse with the mode that udev gives it everywhere, and a helper of mount(8).
if [[ $(id -u) == 0 && ${VPOOL_HARDENING_INSIDE:-} != "$PPID" ]] && unshare -m true 2>/dev/null; then
	VPOOL_HARDENING_INSIDE=$$ exec unshare -m --propagation private bash -c '"$0" "$@"; exit' "$0" "$@"
fi
. "$(dirname "$0")/lib.sh"

fresh() {
	cd "$work" || return 1
	remove_rings "$pool"
	rm -rf "$pool" "$work/flash"
	"$vpool" create "$pool" "$@" >/dev/null
}

mounted() { fresh && "$vpool" mount "$pool" "$mnt"; }

unmounted() {
	cd "$work" || return 1
	"$vpool" umount "$mnt"
}

# --- the program --------------------------------------------------------------------------------

has() { grep -qE -- "$1" <<<"$2" || { echo "the program lacks: $3" && return 1; }; }

the_program_is_built_to_resist() {
	local parts symbols producer
	parts=$(readelf -hdlW "$vpool")
	has 'Type: +DYN \(Position-Independent' "$parts" "a place of its own at each start (PIE)"
	has 'GNU_RELRO' "$parts" RELRO
	has 'FLAGS_1.*NOW' "$parts" "binding at the start (full RELRO)"
	has 'GNU_STACK.* RW +0x' "$parts" "a stack without code"
	same "$(grep -E 'TEXTREL|RPATH|RUNPATH' <<<"$parts" || true)" ""
	symbols=$(readelf --dyn-syms -W "$vpool")
	has '__stack_chk_fail' "$symbols" "canaries on the stack"
	has '__(memcpy|snprintf|vsnprintf)_chk' "$symbols" "calls that know their room (FORTIFY)"
	producer=$(readelf --debug-dump=info "$vpool" 2>/dev/null | sed -n '/DW_AT_producer/{p;q}' || true)
	if [[ $producer == *GNU* ]]; then
		has '-fstack-clash-protection' "$producer" "probes of the stack"
		has '-fstack-protector-strong' "$producer" "canaries in all functions that need one"
		has '-fcf-protection' "$producer" "marks of jumps (CET)"
	fi
	has '<main>:[^<]*endbr64' "$(objdump --disassemble=main "$vpool" | tr '\n' ' ')" "marks of jumps"
}

# --- files --------------------------------------------------------------------------------------

nobody_else_may_touch_a_file_of_a_pool() {
	umask 0
	mounted
	echo text >"$mnt/file"
	unmounted
	"$vpool" check --repair "$pool" >/dev/null
	"$vpool" sync "$pool" >/dev/null
	same "$(find "$pool" ! -type l -perm /077)" ""
}

# planted NAME: a link in its place to what it was is refused, by name
planted() {
	mv "$pool/$1" "$work/moved"
	ln -s "$work/moved" "$pool/$1"
	exits 1 "$vpool" mount "$pool" "$mnt"
	says "'$pool/$1' is a symbolic link"
	one_line
	not_mounted "$mnt"
	exits 1 "$vpool" check "$pool"
	says "symbolic link"
	rm "$pool/$1"
	mv "$work/moved" "$pool/$1"
}

links_planted_in_a_pool_are_refused() {
	local name
	mounted
	echo text >"$mnt/file"
	unmounted
	for name in lock ring.id vpool.conf reserve meta meta/CURRENT objects cache cache/label cache/sco \
		cache/chunks.map; do
		planted "$name"
	done
	"$vpool" mount "$pool" "$mnt"
	same "$(cat "$mnt/file")" text
	unmounted
}

# The engine itself does not follow them either: the command looks at these places no closer.
links_planted_among_the_containers_and_the_cache_are_refused() {
	local name file
	fresh --cache "$work/flash:1G"
	"$vpool" mount "$pool" "$mnt"
	random_file "$mnt/a.raw" 4
	"$vpool" umount --no-upload "$mnt"
	for name in label sco; do
		mv "$work/flash/$name" "$work/moved"
		ln -s "$work/moved" "$work/flash/$name"
		exits 1 "$vpool" mount "$pool" "$mnt"
		says "'$work/flash/$name'"
		says "symbolic link"
		rm "$work/flash/$name"
		mv "$work/moved" "$work/flash/$name"
	done
	file=$(find "$work/flash/sco" -type f -size +1M | head -n 1)
	mv "$file" "$work/moved"
	ln -s "$work/moved" "$file"
	exits 1 "$vpool" mount "$pool" "$mnt"
	says "'$file'"
	says "symbolic link"
	rm "$file"
	mv "$work/moved" "$file"
	exits 0 "$vpool" check --data "$pool"
}

a_link_planted_for_the_ring_is_refused() {
	local pid ring
	mounted
	echo text >"$mnt/file"
	pid=$(daemon_of "$mnt")
	kill -KILL "$pid"
	wait_for 20 is_gone "$pid"
	umount -l "$mnt"
	ring=$(ring_of "$pool")
	mv "$ring" "$work/moved"
	ln -s "$work/moved" "$ring"
	exits 1 "$vpool" mount "$pool" "$mnt"
	says "$ring"
	says "symbolic link"
	rm "$ring"
	cp --sparse=never "$work/moved" "$ring"
	chmod 600 "$ring"
	"$vpool" mount "$pool" "$mnt"
	same "$(cat "$mnt/file")" text
	unmounted
}

# --- an ordinary user ---------------------------------------------------------------------------

user=nobody
uid=$(id -u $user 2>/dev/null)
home=$work/home
as_user() { setpriv --reuid "$uid" --regid "$uid" --clear-groups "$@"; }

# user_prepares: a pool of that user, and a directory to mount it on
user_prepares() {
	cd "$work"
	if [[ ! -d $work/dev ]]; then
		mkdir "$work/dev"
		mount -t tmpfs -o dev tmpfs "$work/dev"
		mknod -m 666 "$work/dev/fuse" c 10 229
		mount --bind "$work/dev/fuse" /dev/fuse
	fi
	chmod 711 "$work"
	[[ -d $home ]] && remove_rings "$home"
	rm -rf "$home"
	install -d -m 700 -o "$uid" -g "$uid" "$home" "$home/mnt"
	as_user "$vpool" create "$home/pool" >/dev/null
}

user_pid() { json "$(as_user "$vpool" status --json "$home/mnt")" "d[\"${1:-pid}\"]"; }

an_ordinary_user_lives_with_fusermount3() {
	local pid
	user_prepares
	as_user "$vpool" mount "$home/pool" "$home/mnt"
	as_user sh -c 'head -c 3000000 /dev/urandom >"$1/mnt/a.raw" && cp "$1/mnt/a.raw" "$1/copy"' - "$home"
	pid=$(user_pid)
	same "$(awk '/^Uid:/ { print $2, $3, $4 }' "/proc/$pid/status")" "$uid $uid $uid"
	kill -KILL "$pid"
	wait_for 20 is_gone "$pid"
	# Its dead mount is cleared, and what was acknowledged is there.
	as_user "$vpool" mount "$home/pool" "$home/mnt"
	as_user cmp "$home/mnt/a.raw" "$home/copy"
	as_user "$vpool" umount "$home/mnt"
	not_mounted "$home/mnt"
	exits 0 as_user "$vpool" check --data "$home/pool"
	says "0 errors, 0 warnings"
}

# Of a process that leaves no dumps the kernel gives the files in /proc to root.
a_process_with_keys_leaves_no_core_dump() {
	local pid
	user_prepares
	as_user "$vpool" mount "$home/pool" "$home/mnt"
	pid=$(user_pid worker_pid)
	same "$(stat -c %u "/proc/$pid/mem")" "$uid" "without keys dumps are for whoever looks for bugs"
	as_user "$vpool" umount "$home/mnt"
	as_user sh -c 'umask 077; printf "ST_USER=u\nST_KEY=very-secret\n" >"$1/keys"' - "$home"
	printf '[backend]\nurl = swift://c/p?auth=http://127.0.0.1:9/auth/v1.0&credentials=%s\n' \
		"$home/keys" >>"$home/pool/vpool.conf"
	as_user "$vpool" mount "$home/pool" "$home/mnt"
	pid=$(user_pid worker_pid)
	same "$(stat -c %u "/proc/$pid/mem")" 0 "owner of the memory of a process with keys"
	same "$(awk '/^Max core file size/ { print $5, $6 }' "/proc/$pid/limits")" "0 0"
	refused "" as_user cat "/proc/$pid/environ"
	# The one that holds the mount has the same environment.
	refused "" as_user cat "/proc/$(user_pid)/environ"
	# The command finds it all the same, and ends it.
	as_user sh -c 'echo text >"$1/mnt/file"' - "$home"
	as_user "$vpool" umount --no-upload "$home/mnt"
	not_mounted "$home/mnt"
}

# --- who starts it ------------------------------------------------------------------------------

a_service_manager_is_told_when_it_is_mounted() {
	fresh
	cat >"$work/manager.py" <<'END'
import os, socket, subprocess, sys
vpool, pool, mnt, path = sys.argv[1:]
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.bind(path)
s.settimeout(60)
p = subprocess.Popen([vpool, 'mount', '-f', pool, mnt], env=dict(os.environ, NOTIFY_SOCKET=path))
try:
    words = s.recv(4096).decode().split('\n')
    assert 'READY=1' in words, words
    assert os.path.ismount(mnt), 'told before it was mounted'
finally:
    subprocess.run([vpool, 'umount', mnt], check=True)
    p.wait()
assert p.returncode == 0
END
	python3 "$work/manager.py" "$vpool" "$pool" "$mnt" "$work/notify"
	rm "$work/notify"
	not_mounted "$mnt"
}

the_unit_is_one_that_systemd_understands() {
	sed "s|@CMAKE_INSTALL_FULL_BINDIR@/vpool|$vpool|" "$root/packaging/systemd/vpool@.service.in" \
		>"$work/vpool@x.service"
	systemd-analyze verify --man=no "$work/vpool@x.service" >"$work/verified" 2>&1
	# It looks at the machine's own units, too.
	same "$(grep -F vpool@ "$work/verified" || true)" ""
	# It must see, and show, the mounts of everybody.
	same "$(grep -E '^(Private|Protect(System|Home|Kernel|Control|Proc)|ReadOnly|ReadWrite|Inaccessible|TemporaryFile|Bind|Root|MountFlags|DynamicUser)' \
		"$work/vpool@x.service" || true)" ""
}

fstab_and_mount_8_know_the_type() {
	fresh
	mkdir "$work/sbin"
	mount -t tmpfs tmpfs "$work/sbin"
	mkdir "$work/sbin/upper" "$work/sbin/work"
	mount -t overlay -o "lowerdir=/usr/sbin,upperdir=$work/sbin/upper,workdir=$work/sbin/work" \
		overlay /usr/sbin
	ln -s "$vpool" /usr/sbin/mount.fuse.vpool
	printf '%s %s fuse.vpool rw,noatime,nofail 0 0\n' "$pool" "$mnt" >"$work/fstab"
	mount --fstab "$work/fstab" "$mnt"
	same "$(findmnt -n -o FSTYPE "$mnt")" fuse.vpool
	grep -q " $mnt fuse.vpool [^ ]*noatime" /proc/mounts
	echo x >"$mnt/x"
	unmounted
	mount -t fuse.vpool -o ro "$pool" "$mnt"
	same "$(cat "$mnt/x")" x
	refused "Read-only" touch "$mnt/y"
	unmounted
}

if readelf --dyn-syms -W "$vpool" | grep -qE '__(asan|tsan)_init'; then
	skip_it the_program_is_built_to_resist "a build without sanitizer"
else
	test_with readelf the_program_is_built_to_resist
fi
for t in nobody_else_may_touch_a_file_of_a_pool links_planted_in_a_pool_are_refused \
	links_planted_among_the_containers_and_the_cache_are_refused \
	a_link_planted_for_the_ring_is_refused; do
	test_it $t
done
for t in an_ordinary_user_lives_with_fusermount3 a_process_with_keys_leaves_no_core_dump; do
	test_with fusermount3 $t
	mountpoint -q "$home/mnt" && umount -l "$home/mnt" 2>/dev/null
done
test_it a_service_manager_is_told_when_it_is_mounted
test_with systemd-analyze the_unit_is_one_that_systemd_understands
test_it fstab_and_mount_8_know_the_type
finish
