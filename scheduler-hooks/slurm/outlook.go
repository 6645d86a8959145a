// SPDX-License-Identifier: Apache-2.0

package slurm

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/esky-hpc/esky/internal/sched"
)

// forecastTime bounds what a forecast asks Slurm for, and what it is not told of
// it leaves open.
const forecastTime = 20 * time.Second

// Forecast implements sched.Forecaster.
func (Adapter) Forecast(f sched.Facts, j sched.Job) sched.Outlook {
	ctx, cancel := context.WithTimeout(context.Background(), forecastTime)
	defer cancel()
	rec, _ := showJob(ctx, f.Ask, j.ID)
	conf, _ := showConfig(ctx, f.Ask)
	o := sched.Outlook{
		Warned: "at the time limit, scancel, requeue and the end of a preemption SIGTERM goes to " + whom(conf) + ", SIGKILL " + j.Later() +
			" (KillWait); before the limit only what --signal asks for, to srun's steps or, with B:, to the script; " + preempted(ctx, f, rec, conf),
		Back:   j.By("esky asks for it (scontrol requeue), after a failure of the host Slurm does: the same id, any host"),
		Output: f.Appended(reopened(f, rec, conf)),
		Admin:  siteCan(conf),
	}
	switch j.NoReturn {
	case interactive:
		o.User = append(o.User, "submit it by sbatch")
	case noRequeue:
		o.Back = "esky asks for it (scontrol requeue); after a failure of the host nobody does: " + noRequeue
	}
	if j.End.IsZero() {
		o.User = append(o.User, sched.Every)
	}
	return o
}

func whom(conf record) string {
	if signalsAll(conf["ProctrackType"]) {
		return "all processes of the job, the program's too"
	}
	return "esky, if it has taken the script's place (exec) or is a step's task"
}

// preempted tells what the job's partition does to it for a better one.
func preempted(ctx context.Context, f sched.Facts, rec, conf record) string {
	if conf["PreemptType"] == "preempt/none" {
		return "nothing preempts jobs here"
	}
	out, err := f.Ask(ctx, "scontrol", "--oneliner", "show", "partition", rec["Partition"])
	if err != nil || rec["Partition"] == "" {
		return "what preemption does is not known"
	}
	part := parseJob(out)
	grace := time.Duration(atoi(part["GraceTime"])) * time.Second
	text := fmt.Sprintf("preemption in partition %s is PreemptMode=%s", rec["Partition"], part["PreemptMode"])
	switch {
	case part["PreemptMode"] == "OFF":
		return "nothing preempts jobs of partition " + rec["Partition"]
	case part["PreemptMode"] == "SUSPEND":
		return text + ": the job is stopped in memory, and not saved"
	case grace == 0:
		return text + " without GraceTime: KillWait is all the time there is"
	case sendsUserSignal(conf):
		return fmt.Sprintf("%s after a GraceTime of %v, which a script with --signal=B:USR1@SECONDS hears of", text, grace)
	}
	return fmt.Sprintf("%s after a GraceTime of %v, which only srun's steps hear of", text, grace)
}

// sendsUserSignal tells whether GraceTime is announced to batch scripts; the
// parameter has moved after 22.05.
func sendsUserSignal(conf record) bool {
	return strings.Contains(conf["SlurmctldParameters"]+conf["PreemptParameters"], "send_user_signal")
}

func reopened(f sched.Facts, rec, conf record) string {
	if truncated(f, rec, conf) {
		return "Slurm empties " + f.Stdout.Path + " when the job comes back"
	}
	if f.Stdout.Regular {
		return "Slurm appends to it"
	}
	return "Slurm opens it again: --open-mode or JobFileAppend says whether to append"
}

// siteCan lists the settings that would serve jobs better.
func siteCan(conf record) []string {
	if conf == nil {
		return nil
	}
	var can []string
	if w := conf.seconds("KillWait"); w < time.Minute {
		can = append(can, fmt.Sprintf("KillWait is %v, all that an unannounced end leaves: more of it lets larger jobs be saved", max(w, leastKillWait)))
	}
	if conf["PreemptType"] != "preempt/none" && !sendsUserSignal(conf) {
		can = append(can, "PreemptParameters=send_user_signal (up to 22.05 SlurmctldParameters=preempt_send_user_signal) announces GraceTime to batch scripts")
	}
	if conf["JobFileAppend"] == "0" {
		can = append(can, "JobFileAppend=1 keeps the output of jobs that come back")
	}
	if signalsAll(conf["ProctrackType"]) {
		can = append(can, "ProctrackType=proctrack/cgroup keeps SIGTERM from the program until it is saved")
	}
	return can
}
