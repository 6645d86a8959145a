#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Checkpoints a program that writes to its 64 MiB all the time, in a memory cgroup
# (version 2) of $2 MiB. Says what esky said, and in the end "all there" if the
# program has lived to see it. $1 has esky-wrap, and room for the image.
set -u
cd "$1" || exit
echo +memory >/sys/fs/cgroup/cgroup.subtree_control
mkdir /sys/fs/cgroup/job
echo $(($2 << 20)) >/sys/fs/cgroup/job/memory.max
mkdir -m 777 "$1/$2" && cd "$1/$2" || exit

as_user() { setpriv --reuid 1000 --regid 1000 --clear-groups "$@"; }

sh -c 'echo $$ >/sys/fs/cgroup/job/cgroup.procs; exec "$@"' sh \
	setpriv --reuid 1000 --regid 1000 --clear-groups "$1/esky-wrap" run --store store --name j -- python3 -c '
import os
memory, n = bytearray(b"a") * (64 << 20), 0
while not os.path.exists("go"):
    for i in range(0, len(memory), 4096):
        memory[i] = n % 256
    n += 1
    if n == 2:
        open("ready", "w").close()
print("all there", flush=True)
' &
while [ ! -e ready ] && kill -0 $!; do sleep 0.1; done
as_user "$1/esky-wrap" checkpoint --store store j
echo "checkpoint: status $?"
touch go
wait $!
grep oom_kill /sys/fs/cgroup/job/memory.events
