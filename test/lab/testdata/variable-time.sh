#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# A job that takes longer than one allocation, in the manner of many sites: the
# job's comment holds the time that is wanted in all, --signal=B:USR1 calls
# func_trap, which checkpoints, requeues the job, and lowers its time limit.
# Only ckpt_command is esky's.
ckpt_command="esky-wrap checkpoint slurm-$SLURM_JOB_ID"

seconds() { IFS=: read -r h m s <<<"$1"; echo $((10#$h * 3600 + 10#$m * 60 + 10#$s)); }
clock() { printf '%02d:%02d:%02d' $(($1 / 3600)) $(($1 / 60 % 60)) $(($1 % 60)); }

parse_job() {
	local wanted
	wanted=$(squeue -h -j "$SLURM_JOB_ID" -o %k)
	remaining=$(($(seconds "$wanted") - SECONDS))
	limit=9
}

func_trap() {
	parse_job
	scontrol update JobId="$SLURM_JOB_ID" Comment="$(clock $remaining)"
	$ckpt_command
	trap '' TERM
	scontrol requeue "$SLURM_JOB_ID"
	scontrol update JobId="$SLURM_JOB_ID" TimeLimit="$limit"
	trap - TERM
}

requeue_job() {
	parse_job
	# shellcheck disable=SC2064 # the name of a function
	[ "$remaining" -le 0 ] || trap "$1" "$2"
}

requeue_job func_trap USR1
esky-wrap run --name "slurm-$SLURM_JOB_ID" -- ../count 40 400 0 result &
wait
