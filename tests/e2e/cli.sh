#!/usr/bin/env bash
# The command as a user types it: every verb, every documented exit code, wrong use of all of them.
# shellcheck disable=SC2016,SC2119,SC2120,SC2317 # tests are called by name; perl has its own dollars
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"

other=$work/other
mkdir "$other"

# A pool of its own for each test, gone afterwards.
fresh() {
	cd "$work" || return 1
	remove_rings "$pool"
	rm -rf "$pool"
	"$vpool" create "$pool" >/dev/null
}

mounted() { fresh && "$vpool" mount "$pool" "$mnt" "$@"; }

unmounted() {
	cd "$work" || return 1
	"$vpool" umount "$mnt"
}

# --- the command itself -------------------------------------------------------------------------

help_and_version_go_to_standard_output() {
	local verb
	"$vpool" --help 2>/dev/null | grep 'Exit codes' >/dev/null
	"$vpool" --version 2>/dev/null | grep '^vpool [0-9]' >/dev/null
	for verb in create mount umount status list info sync check stats config snapshot clone; do
		"$vpool" "$verb" --help 2>/dev/null | grep -- --json >/dev/null
	done
}

wrong_use_is_told_in_one_line_with_code_2() {
	cd "$work"
	exits 2 "$vpool"
	one_line
	exits 2 "$vpool" nonsense
	says "no such verb"
	exits 2 "$vpool" status
	says "missing arguments, expected TARGET"
	exits 2 "$vpool" status a b
	says "too many"
	exits 2 "$vpool" status --colour x
	says "'--colour': unknown option"
	exits 2 "$vpool" create "$pool.x" --sco-size
	says "value is missing"
	exits 2 "$vpool" create "$pool.x" --sco-size 3
	says "out of range"
	one_line
	exits 2 "$vpool" create "$pool.x" --cache /nowhere
	says "DIR:SIZE"
	exits 2 "$vpool" config alter "$pool"
	[[ ! -e $pool.x ]]
}

errors_are_documents_when_asked_for() {
	cd "$work"
	exits 2 "$vpool" nonsense --json
	same "$(json "$said" 'd["code"]')" 2
	exits 4 "$vpool" status --json "$work/none"
	same "$(json "$said" '(d["code"], "none" in d["error"], d["hint"])')" "(4, True, None)"
	exits 2 "$vpool" status --json --colour
	same "$(json "$said" 'sorted(d)')" "['code', 'error', 'hint']"
}

# --- create -------------------------------------------------------------------------------------

create_makes_a_private_directory_and_a_commented_configuration() {
	fresh
	same "$(stat -c '%a' "$pool")" 700
	same "$(stat -c '%a' "$pool/vpool.conf")" 600
	same "$(grep -c '^[a-z]' "$pool/vpool.conf")" 0
	grep -q '^# sco_size = 16M' "$pool/vpool.conf"
	exits 0 "$vpool" config check "$pool"
}

create_writes_what_was_given_into_the_configuration() {
	cd "$work"
	rm -rf "$pool"
	mkdir flash
	"$vpool" create "$pool" --sco-size 4M --backend "file://$work/store" --cache flash:1G --json |
		grep '"pool"' >/dev/null
	grep -q '^sco_size = 4M' "$pool/vpool.conf"
	grep -q "^url = file://$work/store" "$pool/vpool.conf"
	grep -q "^dir = $work/flash:1G" "$pool/vpool.conf"
	[[ -e store/pool.json && -e flash/label ]]
	exits 1 "$vpool" create "$work/second" --cache "$work/flash:1G"
	says "belongs to another pool"
	[[ ! -e second ]]
	exits 1 "$vpool" create "$work/second" --backend "file://$work/store"
	says "holds a pool already"
	[[ ! -e second && -e store/pool.json ]]
	rm -rf "$pool" store flash
}

create_refuses_what_is_not_empty_or_not_there() {
	fresh
	exits 1 "$vpool" create "$pool"
	says "holds a pool already"
	mkdir full
	: >full/file
	exits 1 "$vpool" create full
	says "not empty"
	[[ -e full/file ]]
	exits 1 "$vpool" create full/file
	exits 4 "$vpool" create none/pool
	says "parent"
	exits 1 "$vpool" create new --backend nonsense://x
	one_line
	[[ ! -e new ]]
	rm -r full
}

create_on_a_full_disk_leaves_nothing_behind() {
	cd "$work"
	mkdir small
	mount -t tmpfs -o size=64k tmpfs small
	exits 1 "$vpool" create small/pool
	one_line
	same "$(ls -A small)" ""
	umount small
	rmdir small
}

# --- mount, umount ------------------------------------------------------------------------------

mount_returns_when_the_mount_answers_and_shows_its_source() {
	mounted
	echo hello >"$mnt/file"
	same "$(findmnt -n -o SOURCE,FSTYPE "$mnt" | tr -s ' ')" "$pool fuse.vpool"
	same "$(stat -c '%a' "$pool/control.sock")" 600
	unmounted
	[[ ! -e $pool/control.sock ]]
	"$vpool" mount "$pool" "$mnt"
	same "$(cat "$mnt/file")" hello
	unmounted
}

mount_in_the_foreground_ends_with_sigterm() {
	local child
	fresh
	"$vpool" mount -f "$pool" "$mnt" 2>fg.log &
	child=$!
	wait_for 20 mountpoint -q "$mnt"
	echo kept >"$mnt/file"
	kill -TERM "$child"
	wait "$child"
	not_mounted "$mnt"
	grep -q 'mount: ended' fg.log
	"$vpool" mount "$pool" "$mnt"
	same "$(cat "$mnt/file")" kept
	unmounted
}

mount_refuses_bad_pools_and_mount_points() {
	fresh
	exits 4 "$vpool" mount "$work/none" "$mnt"
	one_line
	exits 4 "$vpool" mount "$other" "$mnt"
	says "holds no pool"
	exits 4 "$vpool" mount "$pool" "$work/none"
	says "make the directory first"
	: >plain
	exits 1 "$vpool" mount "$pool" plain
	says "not a directory"
	exits 1 "$vpool" mount "$pool" "$work"
	says "out of reach"
	exits 2 "$vpool" mount "$pool" "$mnt" -o nonsense
	says "unknown mount option"
	mkdir busy
	mount -t tmpfs tmpfs busy
	exits 5 "$vpool" mount "$pool" busy
	says "tmpfs is mounted there"
	umount busy
	not_mounted "$mnt"
	rm -r plain busy
}

a_broken_configuration_is_told_with_file_and_line() {
	fresh
	printf '[pool]\nsco_size = 3\n' >"$pool/vpool.conf"
	exits 1 "$vpool" mount "$pool" "$mnt"
	says "vpool.conf:2:"
	exits 1 "$vpool" config check "$pool"
	says "vpool.conf:2:"
	exits 1 "$vpool" check "$pool"
	says "vpool.conf:2:"
	rm "$pool/vpool.conf"
	exits 4 "$vpool" mount "$pool" "$mnt"
	says "is missing"
}

a_second_mount_is_refused_and_told_who_has_the_pool() {
	local pid
	mounted
	pid=$(daemon_of "$mnt")
	exits 5 "$vpool" mount "$pool" "$other"
	says "process $pid"
	says "$mnt"
	one_line
	exits 5 "$vpool" mount "$pool" "$mnt"
	says "mounted there already"
	exits 5 "$vpool" check "$pool"
	says "process $pid"
	unmounted
}

umount_of_something_else_is_refused() {
	mounted
	mkdir "$mnt/dir"
	exits 4 "$vpool" umount "$other"
	exits 4 "$vpool" umount /proc
	exits 4 "$vpool" umount "$mnt/dir"
	says "name the mount point"
	mountpoint -q "$mnt"
	unmounted
	exits 4 "$vpool" umount "$mnt"
	exits 4 "$vpool" umount "$pool"
	says "not mounted"
}

umount_of_a_busy_mount_says_so_and_it_goes_on() {
	mounted
	exec 9>"$mnt/open"
	exits 5 "$vpool" umount "$mnt"
	says "fuser"
	echo still >&9
	exec 9>&-
	same "$(cat "$mnt/open")" still
	unmounted
}

umount_uploads_unless_it_is_told_not_to() {
	mounted
	random_file "$mnt/a.raw" 4
	sync "$mnt/a.raw"
	cd "$work"
	"$vpool" umount "$mnt" --no-upload
	"$vpool" mount "$pool" "$mnt"
	random_file "$mnt/b.raw" 4
	exits 0 "$vpool" umount --json "$mnt"
	same "$(json "$said" '(d["uploaded"], d["dirty_bytes"])')" "(True, 0)"
	(($(find "$pool/objects" -path '*/sco/*' -type f | wc -l) >= 2))
}

umount_with_a_dead_backend_ends_and_says_what_stays_dirty() {
	local start_ms
	mounted
	random_file "$mnt/a.raw" 2
	mv "$pool/objects" "$pool/away"
	: >"$pool/objects"
	start_ms=$(now_ms)
	cd "$work"
	exits 3 "$vpool" umount "$mnt"
	says "not on the backend yet"
	(($(now_ms) - start_ms < 60000))
	not_mounted "$mnt"
	rm "$pool/objects"
	mv "$pool/away" "$pool/objects"
	"$vpool" mount "$pool" "$mnt"
	exits 0 "$vpool" sync "$mnt"
	unmounted
}

# The backend is gone, and the settings say to go on asking it for minutes.
patient_with_a_dead_backend() {
	fresh
	printf '%s\n' "[backend]" "attempts_max = 100" "timeout = 1h" "upload_interval = 1s" >>"$pool/vpool.conf"
	"$vpool" mount "$pool" "$mnt"
	random_file "$mnt/a.raw" 2
	"$vpool" sync "$mnt"
	mv "$pool/objects" "$pool/away"
	: >"$pool/objects"
	random_file "$mnt/b.raw" 2
}

with_the_backend_back_all_is_there() {
	not_mounted "$mnt"
	rm "$pool/objects"
	mv "$pool/away" "$pool/objects"
	"$vpool" mount "$pool" "$mnt"
	same "$(stat -c %s "$mnt/b.raw")" 2097152
	exits 0 "$vpool" sync "$mnt"
	unmounted
	exits 0 "$vpool" check --data "$pool"
}

a_stop_without_an_upload_does_not_wait_for_the_backend() {
	local pid syncing
	patient_with_a_dead_backend
	pid=$(daemon_of "$mnt")
	"$vpool" sync "$mnt" 2>"$work/sync" &
	syncing=$!
	cd "$work"
	sleep 2 # so that it waits, and the uploader, too
	kill -TERM "$pid"
	wait_for 30 is_gone "$pid"
	if wait "$syncing"; then return 1; fi
	with_the_backend_back_all_is_there

	patient_with_a_dead_backend
	cd "$work"
	exits 0 timeout 30 "$vpool" umount --no-upload "$mnt"
	with_the_backend_back_all_is_there
}

a_signal_ends_the_upload_of_an_unmount() {
	local pid unmounting r=0
	patient_with_a_dead_backend
	pid=$(daemon_of "$mnt")
	cd "$work"
	"$vpool" umount "$mnt" 2>"$work/why" &
	unmounting=$!
	wait_for 30 not_mounted "$mnt"
	sleep 2
	kill -TERM "$pid"
	# It may have come before the upload began.
	wait_for 1 is_gone "$pid" || kill -TERM "$pid"
	wait_for 30 is_gone "$pid"
	wait "$unmounting" || r=$?
	same "$r" 3 "exit code"
	said=$(cat "$work/why")
	says "not on the backend yet: the backend is not asked any more"
	with_the_backend_back_all_is_there
}

sigterm_is_a_clean_stop() {
	local pid
	mounted
	echo kept >"$mnt/file"
	pid=$(daemon_of "$mnt")
	kill -TERM "$pid"
	wait_for 20 is_gone "$pid"
	not_mounted "$mnt"
	exits 0 "$vpool" check "$pool"
	"$vpool" mount "$pool" "$mnt"
	same "$(cat "$mnt/file")" kept
	unmounted
}

a_dead_mount_is_told_and_cleared() {
	local pid
	mounted
	echo kept >"$mnt/file"
	pid=$(daemon_of "$mnt")
	kill -KILL "$pid"
	wait_for 20 is_gone "$pid"
	exits 0 "$vpool" status "$mnt"
	says "its daemon died"
	exits 4 "$vpool" list "$mnt"
	says "daemon died"
	"$vpool" mount "$pool" "$mnt"
	same "$(cat "$mnt/file")" kept
	pid=$(daemon_of "$mnt")
	kill -KILL "$pid"
	wait_for 20 is_gone "$pid"
	exits 0 "$vpool" umount "$mnt"
	says "had died"
	not_mounted "$mnt"
}

it_works_as_a_helper_of_mount() {
	fresh
	ln -sf "$vpool" "$work/mount.fuse.vpool"
	"$vpool" "$pool" "$mnt" -o rw,noatime
	mountpoint -q "$mnt"
	echo x >"$mnt/x"
	unmounted
	"$work/mount.fuse.vpool" "$pool" "$mnt" -n -o ro,_netdev -t fuse.vpool
	refused "Read-only" touch "$mnt/y"
	same "$(cat "$mnt/x")" x
	unmounted
}

mount_8_finds_it() {
	fresh
	mount -t fuse "$vpool#$pool" "$mnt"
	echo x >"$mnt/x"
	umount "$mnt"
	# Its daemon is still closing the pool: the next mount waits for it.
	"$vpool" mount "$pool" "$mnt"
	same "$(cat "$mnt/x")" x
	unmounted
}

a_mount_right_behind_a_kill_waits_and_recovers() {
	mounted
	echo kept >"$mnt/file"
	kill -KILL "$(daemon_of "$mnt")"
	"$vpool" mount "$pool" "$mnt"
	same "$(cat "$mnt/file")" kept
	unmounted
}

paths_with_blanks_and_newlines_work() {
	local odd="$work/m odd"$'\n'"name"
	cd "$work"
	mkdir "$odd"
	"$vpool" create "$work/a pool" >/dev/null
	"$vpool" mount "$work/a pool" "$odd"
	same "$(json "$("$vpool" status --json "$odd")" 'd["mountpoint"]')" "$odd"
	exits 0 "$vpool" status "$odd"
	"$vpool" umount "$odd"
	rm -r "$work/a pool" "$odd"
}

# --- questions ----------------------------------------------------------------------------------

status_has_the_documented_keys() {
	local d
	mounted
	random_file "$mnt/a.raw" 1
	: >"$mnt/b.txt"
	d=$("$vpool" status --json "$mnt")
	json "$d" '(d["state"], d["reason"], d["uuid"], d["dirty_bytes"], d["used_bytes"])' >/dev/null
	same "$(json "$d" '(sorted(d["cache"]), sorted(d["upload"]), sorted(d["backend"]))')" \
		"(['size_bytes', 'used_bytes'], ['queued_bytes', 'queued_scos'], ['state', 'url'])"
	same "$(json "$d" '(d["state"], d["disks"], d["files"], d["mountpoint"])')" "('ok', 1, 1, '$mnt')"
	same "$(json "$("$vpool" status --json "$pool")" 'd["state"]')" ok
	"$vpool" status "$mnt" | grep 'content *1 disks' >/dev/null
	unmounted
	same "$(json "$("$vpool" status --json "$pool")" 'd["state"]')" offline
}

list_tells_disks_mounted_or_not() {
	mounted
	mkdir "$mnt/dir"
	truncate -s 1G "$mnt/dir/a.raw"
	: >"$mnt/note.txt"
	: >"$mnt/$(printf 'bad\377.raw')"
	"$vpool" list "$mnt" | grep '1.0 GiB.*/dir/a.raw' >/dev/null
	"$vpool" list "$mnt" | grep -F '/bad\xff.raw' >/dev/null
	said=$("$vpool" list --json "$mnt")
	same "$(json "$said" 'ascii(sorted(x["path"] for x in d["disks"]))')" \
		"['/bad\\ufffd.raw', '/dir/a.raw']"
	same "$(json "$said" '[x["path_hex"] for x in d["disks"] if "path_hex" in x]')" \
		"['2f626164ff2e726177']"
	unmounted
	same "$(json "$("$vpool" list --json "$pool")" 'len(d["disks"])')" 2
}

info_tells_about_one_file() {
	mounted
	random_file "$mnt/a.raw" 1
	said=$("$vpool" info --json "$mnt/a.raw")
	same "$(json "$said" '(d["path"], d["class"], d["size_bytes"])')" "('/a.raw', 'disk', 1048576)"
	"$vpool" info "$mnt/a.raw" | grep 'log position' >/dev/null
	exits 4 "$vpool" info "$mnt/none"
	exits 2 "$vpool" info "$mnt"
	exits 4 "$vpool" info "$work"
	mkdir "$mnt/d"
	exits 1 "$vpool" info "$mnt/d"
	unmounted
}

sync_brings_everything_to_the_backend() {
	mounted
	random_file "$mnt/a.raw" 4
	exits 0 "$vpool" sync "$mnt/a.raw"
	same "$(json "$("$vpool" status --json "$mnt")" 'd["upload"]["queued_scos"]')" 0
	(($(find "$pool/objects/root" -type f | wc -l) >= 1))
	cd "$work"
	"$vpool" umount --no-upload "$mnt"
	exits 0 "$vpool" sync "$pool"
}

stats_have_counters_and_times() {
	mounted
	echo x >"$mnt/x"
	said=$("$vpool" stats --json "$mnt")
	json "$said" 'd["counters"]["volume.writes"] >= 1 or 1/0' >/dev/null
	same "$(json "$said" 'sorted(d["histograms"]["volume.sync_ns"])')" \
		"['count', 'max', 'p50', 'p99', 'p999', 'sum']"
	"$vpool" stats "$mnt" | grep 'volume.writes' >/dev/null
	unmounted
	exits 4 "$vpool" stats "$pool"
	says "mount it first"
}

only_root_and_the_owner_may_ask() {
	mounted
	chmod 711 "$work" "$pool"
	chmod 666 "$pool/control.sock"
	exits 0 setpriv --reuid 65534 --regid 65534 --clear-groups perl -MIO::Socket::UNIX -e '
		$s = IO::Socket::UNIX->new(Peer => $ARGV[0]) or die "no socket";
		$SIG{PIPE} = "IGNORE";
		print $s "{\"verb\":\"status\"}\n";
		print <$s>;' "$pool/control.sock"
	says "may not talk"
	unmounted
}

backend_check_tries_a_store() {
	fresh
	exits 0 "$vpool" backend check "file://$work/store"
	says "put if absent   ok"
	says "delete many"
	says "fencing         prevents"
	same "$(find "$work/store" -type f | wc -l)" 0
	same "$(json "$("$vpool" backend check --json "file://$work/store")" \
		'd["usable"] and d["speed"]["put_bytes_per_second"] > 0 and d["fencing"]')" prevents
	exits 2 "$vpool" backend look "file://$work/store"
	exits 1 "$vpool" backend check "nonsense://x"
	says "nonsense"
	touch "$work/file"
	exits 1 "$vpool" backend check "file://$work/file"
	rm -rf "$work/store" "$work/file"
}

config_show_explains_every_key() {
	fresh
	"$vpool" config show "$pool" | grep '^sco_size = 16M' >/dev/null
	same "$(json "$("$vpool" config show --json "$pool")" \
		'[(k["value"], k["unit"]) for k in d["keys"] if k["key"] == "flush_interval"]')" \
		"[(1.0, 'seconds')]"
	exits 4 "$vpool" config show "$other"
}

settings_reach_the_mount() {
	local size
	fresh
	printf '[pool]\ncapacity = 10G\nreport_blocks = full\n[log]\nfile = other.log\n' >"$pool/vpool.conf"
	"$vpool" mount "$pool" "$mnt"
	truncate -s 1G "$mnt/sparse.raw"
	same "$(stat -c %b "$mnt/sparse.raw")" $((1 << 21))
	same "$(find "$mnt/sparse.raw" -printf %b)" $((1 << 21))
	size=$(df -B 1 --output=size "$mnt" | tail -n 1)
	same "$((size))" $((10 << 30))
	grep -q 'mount: mounted' "$pool/other.log"
	unmounted
	printf '[pool]\nreport_blocks = allocated\n' >"$pool/vpool.conf"
	"$vpool" mount "$pool" "$mnt"
	(($(stat -c %b "$mnt/sparse.raw") < 100))
	unmounted
}

size_of_mount() { df -B 1 --output=size "$mnt" | tail -n 1 | tr -d ' '; }
size_is() { same "$(size_of_mount)" "$1"; }
is_uploaded() { same "$(status_of "$mnt" 'd["dirty_bytes"]')" 0; }
log_has() { same "$(grep -c "$2" "$pool/vpool.log")" "$1" "lines with '$2'"; }

settings_change_while_mounted() {
	fresh
	printf '[backend]\nupload_interval = 1h\n' >"$pool/vpool.conf"
	"$vpool" mount "$pool" "$mnt"
	exits 0 "$vpool" config reload "$mnt"
	same "$said" "nothing changed"
	cat >"$pool/vpool.conf" <<-'END'
		[pool]
		capacity = 1G
		report_blocks = full
		[cache]
		flush_interval = 2s
		ring_size = 8M
		[backend]
		upload_interval = 1s
	END
	exits 0 "$vpool" config reload --json "$pool"
	same "$(json "$said" 'sorted((c["key"], c["to"]) for c in d["changes"] if c["applied"])')" \
		"[('capacity', '1G'), ('flush_interval', '2s'), ('report_blocks', 'full'), ('upload_interval', '1s')]"
	same "$(json "$said" '[(c["key"], c["from"]) for c in d["changes"] if not c["applied"]]')" \
		"[('ring_size', '64M')]"
	log_has 4 'mount: setting changed'
	log_has 1 "mount: setting changed: section=cache key=flush_interval from='1s' to='2s'"
	log_has 1 'needs a new mount to change: section=cache key=ring_size'
	size_is $((1 << 30))
	truncate -s 16M "$mnt/sparse.raw"
	same "$(stat -c %b "$mnt/sparse.raw")" $((1 << 15))
	# The first upload comes with the change, the next one with the interval.
	wait_for 30 is_uploaded
	random_file "$mnt/a.raw" 1
	wait_for 30 is_uploaded
	unmounted
}

a_broken_change_of_settings_is_refused_as_a_whole() {
	fresh
	printf '[pool]\ncapacity = 1G\n' >"$pool/vpool.conf"
	"$vpool" mount "$pool" "$mnt"
	printf '[pool]\ncapacity = 2G\n[cache]\nflush_interval = never\n' >"$pool/vpool.conf"
	exits 1 "$vpool" config reload "$mnt"
	says "vpool.conf:4: "
	one_line
	size_is $((1 << 30))
	log_has 1 'settings not read again.*vpool.conf:4: '
	kill -HUP "$(daemon_of "$mnt")"
	wait_for 30 log_has 2 'settings not read again.*vpool.conf:4: '
	size_is $((1 << 30))
	# Right by itself, and wrong beside what can't change before the next mount.
	printf '[pool]\nsco_size = 1M\n[cache]\ndirty_limit = 8M\n' >"$pool/vpool.conf"
	exits 1 "$vpool" config reload "$mnt"
	says "new mount"
	unmounted
	exits 4 "$vpool" config reload "$pool"
}

sighup_reads_the_settings_again() {
	fresh
	"$vpool" mount "$pool" "$mnt"
	printf '[pool]\ncapacity = 1G\n[log]\nlevel = error\n' >"$pool/vpool.conf"
	kill -HUP "$(daemon_of "$mnt")"
	wait_for 30 size_is $((1 << 30))
	log_has 1 'mount: setting changed: section=log key=level'
	printf '[pool]\ncapacity = 2G\n[log]\nlevel = error\n' >"$pool/vpool.conf"
	kill -HUP "$(daemon_of "$mnt")"
	wait_for 30 size_is $((2 << 30))
	log_has 1 'key=capacity' # now it says errors only
	unmounted
}

# --- check --------------------------------------------------------------------------------------

check_finds_nothing_wrong_with_a_good_pool() {
	mounted
	random_file "$mnt/a.raw" 8
	cp "$mnt/a.raw" "$mnt/b"
	rm "$mnt/a.raw"
	unmounted
	exits 0 "$vpool" check --data --json "$pool"
	same "$(json "$said" '(d["errors"], d["warnings"], d["problems"])')" "(0, 0, [])"
	json "$said" 'd["data_bytes"] >= 8 << 20 or 1/0' >/dev/null
	exits 0 "$vpool" check "$pool"
	says "0 errors"
}

check_names_the_file_of_a_flipped_bit() {
	local sco
	mounted
	random_file "$mnt/a.raw" 4
	unmounted
	sco=$(find "$pool/cache/sco" -type f -size +4000k | head -n 1)
	# Two neighbours, one of which is a cluster and not a block of the log.
	head -c 8192 /dev/zero | tr '\0' X | dd of="$sco" bs=8192 seek=128 count=1 iflag=fullblock conv=notrunc status=none
	exits 0 "$vpool" check "$pool"
	exits 6 "$vpool" check --data "$pool"
	says "/a.raw"
	exits 6 "$vpool" check --data --json "$pool"
	same "$(json "$said" '(d["errors"] >= 1, d["problems"][0]["severity"])')" "(True, 'error')"
}

check_repairs_an_object_that_the_backend_lost() {
	mounted
	random_file "$mnt/a.raw" 4
	unmounted
	find "$pool/objects" -path '*/sco/*' -type f -delete
	exits 6 "$vpool" check "$pool"
	says "missing on the backend"
	exits 0 "$vpool" check --repair "$pool"
	says "repaired"
	exits 0 "$vpool" sync "$pool"
	exits 0 "$vpool" check --data "$pool"
	says "0 errors, 0 warnings"
}

while read -r t <&3; do
	case $t in
	fresh | mounted | unmounted | patient_with_a_dead_backend) continue ;;
	with_the_backend_back_all_is_there) continue ;;
	only_root_and_the_owner_may_ask) test_with setpriv "$t" ;;
	*) test_it "$t" ;;
	esac
	# A test that failed in the middle leaves its mount behind.
	mountpoint -q "$mnt" && { "$vpool" umount --no-upload "$mnt" || umount -l "$mnt"; } 2>/dev/null
done 3< <(sed -n 's/^\([a-z0-9_]*\)() {$/\1/p' "$0")
finish
