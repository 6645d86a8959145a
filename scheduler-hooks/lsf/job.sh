#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#BSUB -W 12:00
#BSUB -r
#BSUB -wa USR1 -wt 5
#BSUB -o output.%J
export ESKY_STORE="$HOME/esky" # on a file system that all hosts share
exec esky-wrap run -- ./program args
