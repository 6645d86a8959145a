# SPDX-License-Identifier: Apache-2.0
#
# A stand-in for submitit, which does what its submitit.core._submit and
# job_environment do as far as Slurm sees it: loads a pickled submission, takes
# SIGUSR2 (it asks for --signal=USR2@90) for a preemption or the end of the time,
# has the task checkpoint itself, pickles what that returns as the next submission,
# requeues the job (an array's task by ARRAY_TASK), and ends with -1. Other signals
# are bypassed. The result is pickled, too.
import os
import pickle
import signal
import subprocess
import sys
import time


class Task:
    """Adds numbers up; as users write it, with a checkpoint of its own."""

    def __init__(self):
        self.step, self.total, self.checkpoints = 0, 0, 0

    def __call__(self):
        while self.step < 80:
            self.total += sum(range(self.step * 25, self.step * 25 + 25))
            print("step", self.step)
            self.step += 1
            time.sleep(0.3)
        return self.total, self.checkpoints

    def checkpoint(self):
        self.checkpoints += 1
        return self


class SignalHandler:
    def __init__(self, folder, task):
        self.folder, self.task = folder, task

    def checkpoint_and_try_requeue(self, signum, frame):
        print("launcher: caught signal", signum, file=sys.stderr)
        store(os.path.join(self.folder, "submitted.pkl"), self.task.checkpoint())
        job = os.environ["SLURM_JOB_ID"]
        if "SLURM_ARRAY_TASK_ID" in os.environ:
            job = os.environ["SLURM_ARRAY_JOB_ID"] + "_" + os.environ["SLURM_ARRAY_TASK_ID"]
        subprocess.check_call(["scontrol", "requeue", job], timeout=60)
        sys.exit(-1)

    def bypass(self, signum, frame):
        print("launcher: bypassing signal", signum, file=sys.stderr)


def store(path, what):
    with open(path + ".tmp", "wb") as f:
        pickle.dump(what, f)
    os.replace(path + ".tmp", path)


def main(folder):
    submission = os.path.join(folder, "submitted.pkl")
    if not os.path.exists(submission):
        store(submission, Task())
    with open(submission, "rb") as f:
        task = pickle.load(f)
    handler = SignalHandler(folder, task)
    signal.signal(signal.SIGUSR2, handler.checkpoint_and_try_requeue)
    signal.signal(signal.SIGTERM, handler.bypass)
    signal.signal(signal.SIGCONT, handler.bypass)
    store(os.path.join(folder, "result.pkl"), task())
    with open(os.path.join(folder, "result.pkl"), "rb") as f:
        print("result", *pickle.load(f))


main(sys.argv[1])
