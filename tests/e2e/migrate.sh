#!/usr/bin/env bash
# Two qemus and one disk: its lock keeps the second one out until the first is gone, and a machine moves from one
# to the other while it runs. No system runs in them: qemu itself reads and writes, through the machine's drive.
# shellcheck disable=SC2119,SC2317 # tests are called by name
# shellcheck source=lib.sh
. "$(dirname "$0")/lib.sh"

image=$mnt/vm.raw

cat >"$work/qmp.py" <<'END'
"""qmp.py SOCKET COMMAND [JSON]: what qemu answers; of a line for its human monitor, the text."""
import json, socket, sys

s = socket.socket(socket.AF_UNIX)
s.settimeout(60)
s.connect(sys.argv[1])
lines = s.makefile("rw")

def call(name, arguments):
    lines.write(json.dumps({"execute": name, "arguments": arguments}) + "\n")
    lines.flush()
    while True:
        answer = json.loads(lines.readline())
        if "error" in answer:
            raise SystemExit(answer["error"]["desc"])
        if "return" in answer:
            return answer["return"]

lines.readline()
call("qmp_capabilities", {})
answer = call(sys.argv[2], json.loads(sys.argv[3]) if len(sys.argv) > 3 else {})
print(answer if isinstance(answer, str) else json.dumps(answer))
END

qmp() { python3 "$work/qmp.py" "$work/$1.qmp" "${@:2}"; }

# start NAME [OPTION]...: a machine with the disk; it is up when it answers.
start() {
	local name=$1
	shift
	rm -f "$work/$name.qmp"
	stdbuf -oL qemu-system-x86_64 -accel tcg -M pc -m 16 -nodefaults -display none \
		-drive "if=none,id=d,format=raw,file=$image,cache=none,aio=io_uring,discard=unmap" \
		-device virtio-blk-pci,drive=d -qmp "unix:$work/$name.qmp,server=on,wait=off" "$@" \
		>"$work/$name.said" 2>&1 &
	echo $! >"$work/$name.pid"
	echo $! >>"$work/pids"
	wait_for 60 answers_or_ended "$name" && is_up "$name"
}
is_up() { qmp "$1" query-status >/dev/null; }
has_ended() { is_gone "$(<"$work/$1.pid")"; }
answers_or_ended() { is_up "$1" || has_ended "$1"; }

# refused_start NAME: for want of the lock
refused_start() {
	if start "$@"; then
		echo "a second qemu has the disk"
		return 1
	fi
	grep -q 'Failed to get "write" lock' "$work/$1.said" || {
		cat "$work/$1.said"
		return 1
	}
}

die() {
	kill -KILL "$(<"$work/$1.pid")"
	wait_for 30 has_ended "$1"
}

# io NAME COMMAND: of qemu-io, through the drive of that machine; the answer is on qemu's own output
io() {
	local before text
	before=$(stat -c %s "$work/$1.said")
	qmp "$1" human-monitor-command "{\"command-line\": \"qemu-io d \\\"$2\\\"\"}" >/dev/null
	text=$(tail -c "+$((before + 1))" "$work/$1.said")
	if [[ ! $text =~ ^(wrote|read)\ [0-9]+/[0-9]+\ bytes || $text == *verification* ]]; then
		echo "$1: $2: $text"
		return 1
	fi
}

state_of() { json "$(qmp "$1" query-status)" 'd["status"]'; }
has_moved() {
	local state
	state=$(json "$(qmp "$1" query-migrate)" 'd["status"]')
	[[ $state != failed && $state != cancelled ]] || echo "migration: $state"
	[[ $state == completed ]]
}

the_lock_of_a_disk_keeps_a_second_qemu_out() {
	start one
	io one 'write -P 1 0 1M'
	refused_start two
	refused "lock" qemu-io -f raw -c 'write 0 4k' "$image"
	io one 'read -P 1 0 1M'
}

# Locks are the kernel's.
it_outlives_the_daemon_and_not_its_owner() {
	kill_worker
	refused_start two
	io one 'write -P 2 64K 64K'
	die one
	start two
	io two 'read -P 1 0 64K'
	io two 'read -P 2 64K 64K'
	refused_start one
}

# move FROM TO: a machine that runs
move() {
	start "$2" -incoming "unix:$work/move"
	qmp "$1" migrate "{\"uri\": \"unix:$work/move\"}"
	[[ ${3:-} != kill ]] || kill_worker
	wait_for 120 has_moved "$1"
	same "$(state_of "$1")" postmigrate
	wait_for 60 runs "$2"
}
runs() { [[ $(state_of "$1") == running ]]; }

a_running_machine_moves_from_qemu_to_qemu() {
	io two 'write -P 3 1M 1M'
	move two three
	io three 'read -P 3 1M 1M'
	io three 'write -P 4 1M 512K'
	# The first one let go of the disk, and the second one has it.
	refused "" io two 'write -P 9 0 4K'
	refused_start one
	die two
	io three 'write -P 5 2M 1M'
	# And back, while the daemon dies.
	move three one kill
	die three
	io one 'read -P 4 1M 512K'
	io one 'read -P 3 1536K 512K'
	io one 'read -P 5 2M 1M'
	io one 'write -P 6 3M 64K'
	qmp one quit
	wait_for 60 has_ended one
	qemu-io -f raw -c 'read -P 6 3M 64K' -c 'read -P 5 2M 1M' -c 'read -P 2 64K 64K' "$image" >"$work/read"
	refused "" grep -q verification "$work/read"
}

end_qemus() {
	local pid
	while read -r pid; do
		grep -qsaF "$work/" "/proc/$pid/cmdline" || continue # it ended, or is another process
		kill -KILL "$pid" 2>/dev/null
		wait_for 30 is_gone "$pid"
	done <"$work/pids"
}
: >"$work/pids"
trap 'end_qemus; cleanup' EXIT

for tool in qemu-system-x86_64 qemu-io python3; do
	command -v "$tool" >/dev/null || skip_it the_lock_of_a_disk_keeps_a_second_qemu_out "$tool"
done
((skipped == 0)) || finish
create_pool && "$vpool" mount "$pool" "$mnt" && truncate -s 64M "$image" || exit 1
test_it the_lock_of_a_disk_keeps_a_second_qemu_out
test_it it_outlives_the_daemon_and_not_its_owner
test_it a_running_machine_moves_from_qemu_to_qemu
end_qemus
"$vpool" umount "$mnt" || failed=$((failed + 1))
finish
