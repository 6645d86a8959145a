#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#$ -S /bin/sh
#$ -cwd
#$ -notify
#$ -l h_rt=12:00:00
# Where the administrator has set it up, a suspended job moves to another host:
# #$ -ckpt esky
export ESKY_STORE="$HOME/esky" # on a file system that all hosts share
exec esky-wrap run -- ./program args
