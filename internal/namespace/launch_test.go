// SPDX-License-Identifier: Apache-2.0

package namespace

import (
	"bytes"
	"encoding/gob"
	"testing"
)

// TestEarlyRequest: a program may ask for a checkpoint before its init has come
// to report that it runs.
func TestEarlyRequest(t *testing.T) {
	var pipe bytes.Buffer
	e := gob.NewEncoder(&pipe)
	for _, r := range []report{{Note: "a note"}, {Request: true}, {Ready: true, Pid: 1001}} {
		if err := e.Encode(r); err != nil {
			t.Fatal(err)
		}
	}
	i := &Init{requests: make(chan uint32, 1)}
	if err := i.started(gob.NewDecoder(&pipe)); err != nil || i.MainPid != 1001 || len(i.Notes) != 1 {
		t.Fatalf("%v, %+v", err, i)
	}
	select {
	case <-i.Requests():
	default:
		t.Error("the request is lost")
	}
}
