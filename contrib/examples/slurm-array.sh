#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Each task of an array has its own images (slurm-JOBID_TASKID) and is requeued
# alone.
#
#SBATCH --job-name=array
#SBATCH --array=1-100
#SBATCH --time=04:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%A_%a.out
#SBATCH --signal=B:USR1@60

export ESKY_STORE=$HOME/esky

exec esky-wrap run -- ./program --input "input.$SLURM_ARRAY_TASK_ID"
