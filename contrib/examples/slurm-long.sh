#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# A job that takes longer than the partition's time limit. esky-wrap knows when
# the time is over and how long a checkpoint takes: it leaves in time, requeues
# the job under the same job id, and goes on in the next round. Jobs that wait
# with --dependency=afterok see only the end of the last one.
#
#SBATCH --job-name=long
#SBATCH --time=12:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%j.out
#SBATCH --signal=B:USR1@120

export ESKY_STORE=$HOME/esky

# Besides, a checkpoint every hour, in case the host fails.
exec esky-wrap run --every 1h -- ./program args
