// SPDX-License-Identifier: Apache-2.0

package sched

import "sync"

var registry struct {
	sync.Mutex
	adapters []Adapter
}

// Register adds an adapter; the packages below scheduler-hooks call it from
// init. The first one registered that detects itself wins.
func Register(a Adapter) {
	registry.Lock()
	defer registry.Unlock()
	registry.adapters = append(registry.adapters, a)
}

// Find returns the adapter of the scheduler that we run under. Without one it
// returns Plain and false.
func Find(env Env) (Adapter, bool) {
	registry.Lock()
	defer registry.Unlock()
	for _, a := range registry.adapters {
		if a.Detect(env) {
			return a, true
		}
	}
	return Plain{}, false
}
