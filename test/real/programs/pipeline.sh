#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# A pipeline of children that lives as long as the script, and short-lived
# children in it: a job array of shell, as people write them.
lines=$1

producer() {
	for ((i = 0; i < lines; i++)); do
		echo "item $i"
		sleep 0.01
	done
}

hasher() {
	local previous=start
	while read -r word number; do
		previous=$(printf '%s %s %s' "$previous" "$word" "$number" | sha256sum | cut -c1-16)
		echo "$number $previous"
	done
}

(sleep 0.5; exit 7) &
waiter=$!
producer | hasher | sed -u 's/^/line /' | tee out
stages=("${PIPESTATUS[@]}")
wait "$waiter"
echo "the background child ended with $?"
echo "sum $(sha256sum <out | cut -c1-16) stages ${stages[*]}"
