#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Hosts of a lab on this machine, for "slurm" and "gridengine", which source
# this and set before: here (this directory), system (the name of the lab), and
# nodes, the hosts that there are besides ctl: n1, n2 and so on. Each has a name, a
# network, processes and local directories of its own, and a shared /home. Their users
# are esk and bob. No account, address or file of the machine itself is touched.
# shellcheck disable=SC2034,SC2154 # what those scripts use, and set
shopt -s nullglob
repo=$(cd "$here/../.." && pwd)
pointer=${XDG_RUNTIME_DIR:-/run}/esky-lab-$system
hosts="ctl $nodes"
export PATH="$PATH:/usr/sbin:/sbin"

say() { echo "lab: $*" >&2; }
die() { say "$*"; exit 1; }

# wait_for SECONDS WHAT CMD…: until CMD succeeds; says WHAT did not happen.
wait_for() {
	local end=$((SECONDS + $1)) what=$2
	shift 2
	until "$@" >/dev/null 2>&1; do
		[ $SECONDS -lt $end ] || { say "$what did not happen in time"; return 1; }
		sleep 0.2
	done
}

lab_dir() {
	lab=
	[ -r "$pointer" ] && read -r lab <"$pointer"
	[ -n "$lab" ] && [ -d "$lab" ]
}
need_lab() { lab_dir || die "the lab is not up: run $0 up"; }

# alive FILE: FILE holds "PID STARTTIME"; true while it is that same process.
alive() {
	local pid start
	[ -r "$1" ] && read -r pid start <"$1" && [ "$(start_of "$pid")" = "$start" ]
}
start_of() {
	local stat
	read -r stat 2>/dev/null <"/proc/$1/stat" || return 0
	stat=${stat##*) }
	# shellcheck disable=SC2086 # fields of /proc/PID/stat after the name; 22 is the start time
	set -- $stat
	echo "${20}"
}

# in_host HOST CMD…: as root, with a bare environment and no terminal of ours.
in_host() {
	local pid rest
	read -r pid rest <"$lab/host/$1/init"
	shift
	nsenter -t "$pid" -m -u -i -n -p -- env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 TERM="${TERM:-dumb}" "$@"
}
# as_user USER HOST DIR CMD…
as_user() {
	local user=$1 host=$2 dir=$3
	shift 3
	# shellcheck disable=SC2016 # the inner shell expands it
	in_host "$host" setpriv --reuid "$user" --regid "$user" --init-groups \
		env HOME="/home/$user" USER="$user" LOGNAME="$user" SHELL=/bin/bash \
		PATH="/home/$user/bin:/opt/esky/bin:/usr/local/bin:/usr/bin:/bin:/usr/sbin" \
		/bin/sh -c 'cd "$1" && shift && exec "$@"' sh "$dir" "$@"
}
# daemon HOST NAME CMD…: the inner setsid, because a process that enters a pid
# namespace keeps a session that does not exist there.
daemon() {
	local host=$1 name=$2
	shift 2
	in_host "$host" setsid "$@" </dev/null >>"$lab/log/$host-$name.log" 2>&1 &
	disown
}

start_host() {
	local h=$1 me=$lab/host/$1 pid
	mkdir -p "$me"
	rm -f "$me/ready"
	unshare --net --uts --ipc --mount --propagation private --pid --fork --mount-proc --kill-child=SIGKILL \
		"$here/host-init" "$h" "$lab" </dev/null >>"$lab/log/$h-init.log" 2>&1 &
	echo "$! $(start_of $!)" >"$me/unshare"
	disown
	wait_for 10 "start of host $h (see $lab/log/$h-init.log)" test -e "$me/ready" || return 1
	pid=$(cat "/proc/$(cut -d' ' -f1 "$me/unshare")/task/"*/children)
	pid=${pid%% *}
	echo "$pid $(start_of "$pid")" >"$me/init"
	in_host "$h" ip link set lo up
}

start_network() {
	in_host ctl ip link add br0 type bridge
	in_host ctl ip addr add 10.77.0.1/24 dev br0
	in_host ctl ip link set br0 up
	local h
	for h in $nodes; do plug "$h"; done
}
# address HOST: that of n1 is 10.77.0.11.
address() { echo "10.77.0.$((10 + ${1#n}))"; }
# plug HOST: the other end is moved by the pid that this machine sees, so the
# command runs in ctl's network only.
plug() {
	local ctl pid rest
	read -r ctl rest <"$lab/host/ctl/init"
	read -r pid rest <"$lab/host/$1/init"
	nsenter -t "$ctl" -n ip link del "v$1" 2>/dev/null || true
	nsenter -t "$ctl" -n ip link add "v$1" type veth peer name eth0 netns "$pid"
	nsenter -t "$ctl" -n ip link set "v$1" master br0 up
	in_host "$1" ip addr add "$(address "$1")/24" dev eth0
	in_host "$1" ip link set eth0 up
}

pull_plug() {
	local f pid rest
	for f in init unshare; do
		f=$lab/host/$1/$f
		if alive "$f"; then
			read -r pid rest <"$f"
			kill -KILL "$pid" 2>/dev/null || true
			wait_for 10 "end of host $1" not alive "$f" || true
		fi
		rm -f "$f"
	done
}
not() { ! "$@"; }

# end_unrecorded: a start that was interrupted may have left a host that no file
# tells of. The lab's directory in its command line is nobody else's.
end_unrecorded() {
	local p args
	for p in /proc/[0-9]*; do
		mapfile -d '' -t args 2>/dev/null <"$p/cmdline" || continue
		case " ${args[*]} " in
		" unshare "*" $here/host-init "*" $lab ") kill -KILL "${p#/proc/}" 2>/dev/null || true ;;
		esac
	done
}

# install_missing COMMAND:PACKAGE…: as root, from Debian.
install_missing() {
	[ "$(id -u)" = 0 ] || die "needs root, for hosts with a network and users of their own (try sudo)"
	local want="" pair
	for pair; do
		command -v "${pair%%:*}" >/dev/null || want="$want ${pair#*:}"
	done
	[ -z "$want" ] && return
	command -v apt-get >/dev/null || die "missing:$want (those are Debian's package names)"
	say "installing$want"
	# shellcheck disable=SC2086 # a list of packages
	"$repo/test/install" $want >&2
	for pair; do
		command -v "${pair%%:*}" >/dev/null || die "apt-get could not install ${pair#*:}"
	done
}

# write_users: the files that all hosts have in /etc.
write_users() {
	local e=$lab/etc f
	for f in passwd group shadow; do
		grep -vE '^(esk|bob):|:(5001|5002):' "/etc/$f" >"$e/$f" || true
	done
	chmod 640 "$e/shadow"
	for f in esk:5001 bob:5002; do
		echo "${f%:*}:x:${f#*:}:${f#*:}:lab user:/home/${f%:*}:/bin/bash" >>"$e/passwd"
		echo "${f%:*}:x:${f#*:}:" >>"$e/group"
		echo "${f%:*}:*:19000:0:99999:7:::" >>"$e/shadow"
		install -d -o "${f#*:}" -g "${f#*:}" "$lab/home/${f%:*}"
	done
	printf '127.0.0.1 localhost\n10.77.0.1 ctl\n' >"$e/hosts"
	for f in $nodes; do echo "$(address "$f") $f" >>"$e/hosts"; done
	cp "$here/$system-host" "$e/host"
}

# make_lab: the directories of a lab that is about to start. Until "trap - EXIT"
# whatever ends the script takes it down again.
make_lab() {
	umask 022
	lab=${ESKY_LAB_DIR:-$(mktemp -d "/var/tmp/esky-lab.XXXXXX")}
	mkdir -p "$lab"/{host,log,etc,site/esky/bin,home}
	touch "$lab/.esky-lab" # what remove_lab may remove
	echo "$lab" >"$pointer"
	# Not a trap on ERR: the daemons' subshells would inherit it.
	trap 'tail -vn 3 "$lab"/log/*.log >&2; say "not up: tidying"; down' EXIT
	write_users
}

remove_lab() {
	if [ -e "$lab/.esky-lab" ]; then rm -rf --one-file-system "$lab"; fi
	rm -f "$pointer"
}

# end_hosts: all of them, and those that a start left without a record.
end_hosts() {
	local h
	for h in $nodes ctl; do pull_plug "$h"; done
	end_unrecorded
}

all_alive() {
	local h
	for h in $hosts; do alive "$lab/host/$h/init" || return 1; done
}

show_hosts() {
	local h
	for h in $hosts; do
		if alive "$lab/host/$h/init"; then echo "$h: up"; else echo "$h: down"; fi
	done
}

# install_programs: this checkout's, for /opt/esky of all hosts.
install_programs() {
	local bin=$lab/site/esky/bin f
	mkdir -p "$lab/home/esk/bin"
	for f in esky-hook esky-wrap; do
		if [ ! -x "$repo/bin/$f" ]; then
			say "bin/$f is not built: the cluster has none (make, then $0 install)"
			continue
		fi
		# A rename, so that running copies are not disturbed.
		install -m 755 "$repo/bin/$f" "$bin/$f.new" && mv "$bin/$f.new" "$bin/$f"
	done
}

build_hook() {
	[ -x "$repo/bin/esky-hook" ] && return
	command -v go >/dev/null || return 0
	(cd "$repo" && CGO_ENABLED=0 go build -o bin/esky-hook ./cmd/esky-hook)
}

# restart_host HOST: one of the nodes, without its daemons.
restart_host() {
	case " $nodes " in *" $1 "*) ;; *) die "only $nodes can be restarted" ;; esac
	pull_plug "$1"
	rm -rf "$lab/host/$1/overlay"
	start_host "$1"
	plug "$1"
}

# lab_exec HOST CMD…: as the user ESKY_LAB_USER, or esk.
lab_exec() {
	local user=${ESKY_LAB_USER:-esk} host=${1:?which host}
	shift
	if [ "$user" = root ]; then in_host "$host" "$@"; else as_user "$user" "$host" "/home/$user" "$@"; fi
}
