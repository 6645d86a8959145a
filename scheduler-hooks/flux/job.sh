#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#flux: -N1 -t 12h --signal=SIGUSR1@5m
export ESKY_STORE="$HOME/esky" # on a file system that all hosts share
export ESKY_RESUBMIT="flux batch --dependency=afterany:$FLUX_JOB_ID $HOME/job.sh"
exec esky-wrap run --name my-simulation -- ./program args
