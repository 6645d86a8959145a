#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Drives programs under the kernel of a guest: taken away with a checkpoint, and
# brought back. Standard input has lines
#   NAME FATE PROGRAM [MODE]
# and standard output "NAME ok", or what is wrong. $1 has esky-wrap and the programs.
# Everything is ten times slower than elsewhere.
set -u
from=$1
cp -R "$from" /tmp/from && cd /tmp || exit

# within waits for a file, as long as a process lives.
within() { # SECONDS FILE PID
	tenths=$(($1 * 10))
	while [ ! -e "$2" ] && [ $tenths -gt 0 ] && kill -0 "$3" 2>/dev/null; do
		sleep 0.1
		tenths=$((tenths - 1))
	done
	[ -e "$2" ]
}

run() { # PROGRAM [MODE]
	/tmp/from/esky-wrap run --store store --name j -- "/tmp/from/$1" status ${2+"$2"} >>said 2>&1 </dev/null &
}

drive() { # FATE PROGRAM [MODE]
	fate=$1
	shift
	run "$@"
	within 60 status $! || return
	/tmp/from/esky-wrap checkpoint --stop --store store j >answer 2>&1
	code=$?
	echo "checkpoint: status $code" >>said
	cat answer >>said
	case $fate,$code in
	carried,0)
		wait $!
		run "$@"
		;;
	refused,69) ;;
	*) return ;;
	esac
	: >status.go
	within 60 status.result $!
	wait $!
}

while read -r name fate line; do
	mkdir "/tmp/$name" && cd "/tmp/$name" || exit
	# shellcheck disable=SC2086 # a program and perhaps a mode
	drive "$fate" $line 2>>said
	if [ "$(cat status.result 2>/dev/null)" = PASS ]; then
		echo "$name ok"
	else
		pkill -KILL -f "/tmp/from/esky-wrap run"
		echo "$name $(cat status.result said 2>/dev/null | tr '\n' ' ')"
	fi
	cd /tmp && rm -rf "/tmp/$name"
done
