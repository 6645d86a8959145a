#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# A job on a partition whose jobs may be preempted at any time. When Slurm asks
# it to go, it is checkpointed and requeued, and resumes on any host that
# matches.
#
#SBATCH --job-name=preemptible
#SBATCH --partition=preempt
#SBATCH --time=2-00:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%j.out
# The signal must reach the batch script: 60 seconds before the end of time.
#SBATCH --signal=B:USR1@60

export ESKY_STORE=$HOME/esky

# exec: esky-wrap takes the place of this shell, so that Slurm's signals reach
# it. Nothing may come after this line.
exec esky-wrap run -- ./program args
