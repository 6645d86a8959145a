#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#OAR -l /nodes=1,walltime=12:00:00
#OAR -t idempotent
#OAR --checkpoint 300
#OAR --signal 12
export ESKY_STORE="$HOME/esky" # on a file system that all hosts share
exec esky-wrap run --name my-simulation -- ./program args
