# SPDX-License-Identifier: Apache-2.0
#
# A stand-in for launchers such as submitit: runs a task, and on SIGUSR2 (the
# signal of --signal=USR2@90) requeues its job and ends. SIGTERM is ignored, for
# Slurm sends it along.
import json
import signal
import subprocess
import sys
import os
import time

requeued = 0


def checkpoint_and_requeue(signum, frame):
    global requeued
    requeued += 1
    subprocess.check_call(["scontrol", "requeue", os.environ["SLURM_JOB_ID"]])
    sys.exit(-1)


signal.signal(signal.SIGUSR2, checkpoint_and_requeue)
signal.signal(signal.SIGTERM, lambda signum, frame: None)
total = 0
for step in range(40):
    total += sum(range(step * 25, step * 25 + 25))
    print("step", step)
    time.sleep(0.3)
with open(sys.argv[1], "w") as f:
    json.dump({"result": total, "requeued_by_launcher": requeued}, f)
