#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Runs the programs by themselves, with nobody who takes their state away: each
# must pass, or a failure under esky says nothing.
#   selfcheck.sh [NAME…]
set -u
here=$(cd "$(dirname "$0")" && pwd)
dir=$(mktemp -d) || exit 70
export BLOCK_MS="${BLOCK_MS:-1000}"
trap 'rm -rf "$dir"' EXIT
trap 'exit 130' INT TERM
bad=0 all=0

# one NAME BUILD PROGRAM [MODE]
one() {
	name=$1 bin=$here/build/$2/$3
	status=$dir/$name.$2
	shift 3
	(cd "$dir" && exec timeout -s KILL 20 "$bin" "$status" "$@") >"$status.out" 2>&1 &
	pid=$!
	while [ ! -e "$status" ] && kill -0 $pid 2>/dev/null; do sleep 0.01; done
	sleep "${ESKY_SELFCHECK_DELAY:-0.05}"
	: >"$status.go"
	wait $pid
	code=$?
	result=$(cat "$status.result" 2>/dev/null)
	all=$((all + 1))
	if [ $code -ne 0 ] || [ "$result" != PASS ]; then
		bad=$((bad + 1))
		echo "$name: exit status $code, ${result:-no result}"
		cat "$status.out"
	fi
}

# wanted NAME NAME… : is the first among the others, or are there none
wanted() {
	w=$1
	shift
	[ $# -eq 0 ] && return 0
	for n in "$@"; do [ "$n" = "$w" ] && return 0; done
	return 1
}

while IFS='|' read -r name program builds _; do
	case $name in '#'* | '') continue ;; esac
	name=${name% }
	wanted "$name" "$@" || continue
	for b in $builds; do
		# shellcheck disable=SC2086 # program and its mode
		if [ -x "$here/build/$b" ] || [ "$b" != musl ]; then one "$name" "$b" $program; fi
	done
done <"$here/programs.txt"
echo "$all runs, $bad bad"
[ $bad -eq 0 ] && [ $all -gt 0 ]
