#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Shows that the programs notice: each line of spoil.txt spoils a kind of state,
# and the program must fail.
#   spoilcheck.sh [NAME…]
set -u
here=$(cd "$(dirname "$0")" && pwd)
dir=$(mktemp -d) || exit 70
trap 'rm -rf "$dir"' EXIT
trap 'exit 130' INT TERM
export BLOCK_MS=1000
bad=0 all=0

spoil() { # NAME STATEMENT
	# shellcheck disable=SC2046 # program and its mode
	set -- "$1" "$2" $(awk -F ' *[|] *' -v n="$1" '$1 == n { print $2 }' "$here/programs.txt")
	name=$1 what=$2 source=$3
	shift 3
	all=$((all + 1))
	status=$dir/$all
	bin=$here/build/glibc/$source
	case $what in
	stop*) ;;
	*)
		bin=$dir/$all.bin
		${CC:-gcc} -std=gnu11 -O1 -w -D_GNU_SOURCE -I"$here/../../shim" -include "$here/spoil.h" \
			-DSPOIL="$what" -o "$bin" "$here/$source.c" -pthread -lm || exit 70
		;;
	esac
	(cd "$dir" && exec setsid timeout -s KILL 20 "$bin" "$status" "$@") >"$status.out" 2>&1 &
	pid=$!
	while [ ! -e "$status" ] && kill -0 $pid 2>/dev/null; do sleep 0.01; done
	sleep 0.1
	case $what in stop*)
		kill -STOP -$pid
		sleep "${what#stop }"
		kill -CONT -$pid
		;;
	esac
	: >"$status.go"
	wait $pid
	case $(cat "$status.result" 2>/dev/null) in
	FAIL*) ;;
	*)
		bad=$((bad + 1))
		echo "$name does not notice: $what: $(cat "$status.result" "$status.out" 2>/dev/null)"
		;;
	esac
}

while IFS='|' read -r name what; do
	case $name in '#'* | '') continue ;; esac
	name=${name% } what=${what# }
	if [ $# -gt 0 ]; then
		case " $* " in *" $name "*) ;; *) continue ;; esac
	fi
	spoil "$name" "$what" </dev/null
done <"$here/spoil.txt"
echo "$all spoilt, $bad not noticed"
[ $bad -eq 0 ] && [ $all -gt 0 ]
