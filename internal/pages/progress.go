// SPDX-License-Identifier: Apache-2.0

package pages

import (
	"sync/atomic"
	"time"
)

// Counter adds up what is done and tells report of it, some times a
// second. It may be called from several goroutines.
func Counter(report func(phase string, done, total int64), phase string, total int64) func(int) {
	const interval = 200 * time.Millisecond
	var done, last atomic.Int64
	return func(n int) {
		sum, now := done.Add(int64(n)), time.Now().UnixNano()
		before := last.Load()
		if report != nil && now-before > int64(interval) && last.CompareAndSwap(before, now) {
			report(phase, sum, total)
		}
	}
}
