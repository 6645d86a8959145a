#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Without a scheduler: runs the program to its end, however often it is taken
# away. Status 75 means "checkpointed: run me again". After the host came back
# from a crash, start this script again.
#
# usage: plain.sh STORE NAME PROGRAM [ARG…]
set -u
store=$1 name=$2
shift 2

while :; do
	esky-wrap run --store "$store" --name "$name" --every 10m -- "$@"
	status=$?
	[ "$status" = 75 ] || exit "$status"
done
