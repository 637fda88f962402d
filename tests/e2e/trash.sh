#!/usr/bin/env bash
# The trash as a user meets it: what rm and mv leave there, what comes back, what goes for good.
# shellcheck disable=SC2016,SC2119,SC2317 # tests are called by name
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"

view=$mnt/.snapshots
src=$work/source
random_file "$src" 4
src_hash=$(hash_of "$src")

snap() { "$vpool" snapshot "$@"; }
trash() { "$vpool" trash "$@"; }
in_trash() { json "$(trash list --json "${1:-$mnt}")" '" ".join(f["path"] for f in d["files"])'; }
holds() { json "$(trash list --json "$mnt")" "sum(f['allocated_bytes'] for f in d['files'])"; }

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

# set_keys KEY=VALUE...: in [pool], and the daemon reads them.
set_keys() {
	{
		echo "[pool]"
		printf '%s\n' "$@"
	} >"$pool/vpool.conf"
	"$vpool" config reload "$pool" >/dev/null
}

# A disk with the content of the source and a snapshot `one` of that, changed since.
a_disk() {
	cp --sparse=never "$src" "$1"
	snap create --name one "$1" >/dev/null
	printf changed | dd of="$1" conv=notrunc status=none
	changed_hash=$(hash_of "$1")
}

a_removed_disk_comes_back_with_its_snapshots() {
	mkdir d
	a_disk d/a.raw
	rm d/a.raw
	[[ ! -e d/a.raw && ! -e $view/d/a.raw ]]
	same "$(in_trash)" /d/a.raw
	said=$(trash list "$mnt")
	says "4.0 MiB"
	says "/d/a.raw"
	same "$(json "$(trash list --json "$mnt")" 'sorted(d["files"][0])')" "['allocated_bytes', 'expires', 'inode', 'path', 'removed', 'size_bytes', 'snapshots']"
	same "$(json "$(trash list --json "$mnt")" '[(f["snapshots"], f["size_bytes"], round(f["expires"] - f["removed"])) for f in d["files"]]')" "[(1, 4194304, 604800)]"
	same "$(json "$("$vpool" status --json "$mnt")" 'd["trash"]["files"]')" 1
	[[ ! -e d/a.raw ]] # the kernel knows now that there is none
	same "$(trash restore "$mnt" /d/a.raw)" /d/a.raw
	same "$(hash_of d/a.raw)" "$changed_hash"
	same "$(hash_of "$view/d/a.raw/one")" "$src_hash"
	same "$(in_trash)" ""
	rm -r d
	same "$(in_trash)" /d/a.raw
	trash empty "$mnt" --all >/dev/null
}

it_survives_a_stop_and_a_kill() {
	a_disk k.raw
	exec 8<>k.raw
	rm k.raw
	printf later >&8
	kill_it
	exec 8>&-
	mount_it
	same "$(in_trash)" /k.raw
	umount_it
	same "$(in_trash "$pool")" /k.raw
	said=$("$vpool" check --data "$pool")
	says "0 errors, 0 warnings"
	"$root/tests/walker/walk.py" "$pool" >/dev/null
	said=$("$root/tests/walker/plant.py" "$pool" trash) && return 1
	says "no name reaches it"
	same "$(trash restore "$pool" /k.raw)" /k.raw
	mount_it
	same "$(head -c 5 k.raw)" later
	same "$(hash_of "$view/k.raw/one")" "$src_hash"
	rm k.raw
	trash empty "$mnt" /k.raw >/dev/null
}

a_taken_name_is_not_taken_away_unless_forced() {
	local first
	a_disk b.raw
	first=$(stat -c %i b.raw)
	cp --sparse=never "$src" new
	mv -f new b.raw
	same "$(hash_of b.raw)" "$src_hash"
	exits 1 "$vpool" trash restore "$mnt" /b.raw
	says "--force"
	trash restore "$mnt" "$mnt/b.raw" old.raw
	same "$(hash_of old.raw)" "$changed_hash"
	rm old.raw
	same "$(in_trash)" /old.raw
	trash restore "$mnt" "$first" b.raw --force
	same "$(stat -c %i b.raw)" "$first"
	same "$(hash_of b.raw)" "$changed_hash"
	same "$(in_trash)" ""
	rm b.raw
	trash empty "$mnt" --all >/dev/null
}

a_directory_that_is_gone_is_told() {
	mkdir g
	a_disk g/g.raw
	rm -r g
	exits 4 "$vpool" trash restore "$mnt" /g/g.raw
	says "the directory where it was is gone"
	mkdir g
	trash restore "$mnt" /g/g.raw >/dev/null
	same "$(hash_of g/g.raw)" "$changed_hash"
	rm g/g.raw
	mv g h
	same "$(trash restore "$mnt" /g/g.raw)" /h/g.raw
	rm -r h
	trash empty "$mnt" --all >/dev/null
}

emptying_gives_the_space_back() {
	local before
	"$vpool" sync "$mnt"
	before=$(json "$("$vpool" status --json "$mnt")" 'd["used_bytes"]')
	a_disk e.raw
	rm e.raw
	"$vpool" clone "$view" x.raw 2>/dev/null && return 1
	same "$(trash empty "$mnt" --older-than 1h)" ""
	same "$(trash empty "$mnt" --all --dry-run)" "would remove /e.raw"
	[[ $(holds) -ge 4194304 ]]
	same "$(trash empty "$mnt" --older-than 0s)" "removed /e.raw"
	same "$(in_trash)" ""
	freed() { "$vpool" sync "$mnt" && (($(json "$("$vpool" status --json "$mnt")" 'd["used_bytes"]') <= before)); }
	wait_for 30 freed
}

who_has_it_open_goes_on() {
	a_disk o.raw
	exec 8<>o.raw
	rm o.raw
	trash empty "$mnt" /o.raw >/dev/null
	same "$(in_trash)" ""
	same "$(hash_of /proc/self/fd/8)" "$changed_hash"
	exec 8>&-
}

the_settings_say_what_is_kept_and_how_long() {
	cp --sparse=never "$src" p.raw
	rm p.raw
	same "$(in_trash)" ""
	set_keys "trash = all"
	cp --sparse=never "$src" p.raw
	cp "$src" p.txt
	rm p.raw p.txt
	same "$(in_trash)" /p.raw
	set_keys "trash = all" "trash_keep = 1s"
	gone() { [[ -z $(in_trash) ]]; }
	wait_for 20 gone
	set_keys "trash = off"
	a_disk p.raw
	rm p.raw
	same "$(in_trash)" ""
	a_disk p.raw
	snap sticky p.raw one on
	refused "not permitted" rm p.raw
	snap sticky p.raw one off
	rm p.raw
	set_keys
}

a_pool_that_is_nearly_full_tells_what_the_trash_holds() {
	set_keys "capacity = 64M"
	random_file f.raw 60
	snap create --name one f.raw >/dev/null
	rm f.raw
	told() { "$vpool" status "$mnt" | grep -q "^trash.*1 files, 60.0 MiB; space is running out"; }
	wait_for 40 told
	set_keys
	trash empty "$mnt" --all >/dev/null
}

wrong_use_is_told() {
	exits 2 "$vpool" trash
	exits 2 "$vpool" trash frob "$mnt"
	says "expected list, restore or empty"
	exits 2 "$vpool" trash restore "$mnt"
	exits 2 "$vpool" trash empty "$mnt"
	exits 2 "$vpool" trash empty "$mnt" /x --all
	exits 2 "$vpool" trash empty "$mnt" --older-than soon
	exits 2 "$vpool" trash list "$mnt" --force
	exits 2 "$vpool" trash restore "$mnt" /x --all
	exits 4 "$vpool" trash restore "$mnt" /x
	exits 4 "$vpool" trash empty "$mnt" /x
	says "'/x' is not removed"
	exits 4 "$vpool" trash list "$work/none"
}

a_restore_from_the_backend_brings_the_trash_along() {
	a_disk r.raw
	rm r.raw
	"$vpool" sync "$mnt"
	umount_it
	rm -rf "$work/pool2"
	"$vpool" restore "$work/pool2" --backend "file://$pool/objects" >/dev/null
	same "$(in_trash "$work/pool2")" /r.raw
	"$vpool" mount "$work/pool2" "$mnt"
	cd "$mnt"
	trash restore "$mnt" /r.raw >/dev/null
	same "$(hash_of r.raw)" "$changed_hash"
	same "$(hash_of "$view/r.raw/one")" "$src_hash"
	umount_it
	said=$("$vpool" check --data "$work/pool2")
	says "0 errors"
}

"$vpool" create "$pool" >/dev/null
(mount_it)
test_it a_removed_disk_comes_back_with_its_snapshots
test_it it_survives_a_stop_and_a_kill
test_it a_taken_name_is_not_taken_away_unless_forced
test_it a_directory_that_is_gone_is_told
test_it emptying_gives_the_space_back
test_it who_has_it_open_goes_on
test_it the_settings_say_what_is_kept_and_how_long
test_it a_pool_that_is_nearly_full_tells_what_the_trash_holds
test_it wrong_use_is_told
test_it a_restore_from_the_backend_brings_the_trash_along
finish
