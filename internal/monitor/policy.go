// SPDX-License-Identifier: Apache-2.0

package monitor

import (
	"math"
	"time"
)

// Span is a duration that the user gave, or "auto".
type Span struct {
	Auto bool
	D    time.Duration // 0 with Auto false: never (for a period), none (for a margin)
}

// cost is what is known of the price of a checkpoint of this job on this store.
type cost struct {
	took   time.Duration // of the last dump, 0 before the first one
	pause  time.Duration // of the last dump
	memory int64         // in use when it was made
	speed  float64       // bytes per second of the store, measured; 0 if not yet
}

const (
	// assumedSpeed is a poor shared file system: used until something was measured.
	assumedSpeed = 100 << 20
	// fixedCost is what a dump takes that has nothing to do with its size:
	// starting the tracer, metadata, fsync, rename.
	fixedCost = 500 * time.Millisecond
)

// estimate is how long a dump of so much memory will take.
func (c cost) estimate(memory int64) time.Duration {
	if c.took > 0 && c.memory > 0 {
		grown := math.Max(1, float64(memory)/float64(c.memory))
		return time.Duration(float64(c.took) * grown)
	}
	speed := c.speed
	if speed <= 0 {
		speed = assumedSpeed
	}
	return fixedCost + time.Duration(float64(memory)/speed*float64(time.Second))
}

// margin is how long before the wall-clock limit the job must begin to leave:
// twice the time of the dump, because shared storage is busiest when many jobs
// leave at once, and a little for the scheduler's own commands.
func margin(s Span, dump time.Duration) time.Duration {
	if !s.Auto {
		return s.D
	}
	return 2*dump + 10*time.Second
}

// leaveTime is when to leave for a limit at end. However short the limit is,
// half of the time from start to end is left to the job, or it would never get
// anywhere.
func leaveTime(start, end time.Time, margin time.Duration) time.Time {
	at, half := end.Add(-margin), start.Add(end.Sub(start)/2)
	if at.Before(half) {
		return half
	}
	return at
}

// nextLook is when to compute the time to leave again: memory grows, so the
// answer of now is not final. Half of what is left each time costs a handful of
// wake-ups however long the job runs.
func nextLook(now, leave time.Time) time.Time {
	left := leave.Sub(now)
	if left < 4*time.Second {
		return leave
	}
	return now.Add(left / 2)
}

// meanTimeToFailure is what Young and Daly's formula needs and nobody knows:
// a host of a large cluster fails, or is preempted, every day or so.
const meanTimeToFailure = 24 * time.Hour

// Bounds of --every auto.
const (
	shortestPeriod = time.Minute
	longestPeriod  = 4 * time.Hour
)

// period is the time between two checkpoints of a job that runs on; 0 is never.
func period(s Span, c cost, memory int64) time.Duration {
	if !s.Auto {
		return s.D
	}
	return daly(priceOf(c, memory), meanTimeToFailure)
}

// priceOf is what one checkpoint costs the job: the pause, and a tenth of the dump
// for the pages that it must copy and the storage it shares meanwhile.
func priceOf(c cost, memory int64) time.Duration {
	return c.pause + c.estimate(memory)/10
}

// daly is the period that loses the least between the cost of checkpoints and
// the work that a failure undoes (J. T. Daly, A higher order estimate of the
// optimum checkpoint interval for restart dumps, 2006, equation 37).
func daly(lost, mttf time.Duration) time.Duration {
	d, m := lost.Seconds(), mttf.Seconds()
	t := m
	if d < 2*m {
		r := d / (2 * m)
		t = math.Sqrt(2*d*m)*(1+math.Sqrt(r)/3+r/9) - d
	}
	p := time.Duration(t * float64(time.Second))
	return min(max(p, shortestPeriod), longestPeriod)
}
