#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#PBS -l walltime=12:00:00
cd "$PBS_O_WORKDIR" || exit
export ESKY_STORE="$HOME/esky" # on a file system that all hosts share
# Only where the site has no esky hook: what submits this job again.
export ESKY_RESUBMIT="cd '$PBS_O_WORKDIR' && qsub job.sh"
exec esky-wrap run --name my-simulation -- ./program args
