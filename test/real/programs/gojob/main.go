// SPDX-License-Identifier: Apache-2.0

// Command gojob keeps every part of the Go runtime busy: goroutines that hash
// on all threads, garbage, tickers and timers, a pipe through the poller, and
// children that are started and waited for.
package main

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

func main() {
	lines, err := strconv.Atoi(os.Args[1])
	check(err)
	var ticks atomic.Int64
	go func() {
		for range time.Tick(3 * time.Millisecond) {
			ticks.Add(1)
		}
	}()
	r, w, err := os.Pipe()
	check(err)
	go echo(r)
	state := sha256.Sum256([]byte("start"))
	for i := range lines {
		state = step(state)
		_, err := fmt.Fprintf(w, "%d %x\n", i, state[:8])
		check(err)
		<-echoed
		if i%20 == 19 {
			fmt.Printf("%d child says %s\n", i, child(state[:]))
		}
		select {
		case <-time.After(5 * time.Millisecond):
		case <-never:
		}
	}
	if ticks.Load() == 0 {
		fmt.Println("the ticker never ticked")
	}
}

var (
	echoed = make(chan struct{})
	never  = make(chan struct{})
)

// echo prints what comes through the pipe.
func echo(r *os.File) {
	var line bytes.Buffer
	b := make([]byte, 1)
	for {
		_, err := r.Read(b)
		check(err)
		line.WriteByte(b[0])
		if b[0] == '\n' {
			fmt.Print(line.String())
			line.Reset()
			echoed <- struct{}{}
		}
	}
}

// step hashes garbage in eight goroutines; the result does not depend on their
// order.
func step(state [32]byte) [32]byte {
	var parts [8][32]byte
	var wg sync.WaitGroup
	for g := range parts {
		wg.Go(func() {
			data := make([]byte, 64<<10)
			copy(data, state[:])
			data[0] += byte(g)
			for range 12 {
				sum := sha256.Sum256(data)
				copy(data[len(sum):], sum[:])
			}
			parts[g] = sha256.Sum256(data)
		})
	}
	wg.Wait()
	h := sha256.New()
	for _, p := range parts {
		h.Write(p[:])
	}
	return [32]byte(h.Sum(nil))
}

func child(data []byte) string {
	cmd := exec.Command("/usr/bin/sha256sum")
	cmd.Stdin = bytes.NewReader(data)
	out, err := cmd.Output()
	check(err)
	return string(out[:16])
}

func check(err error) {
	if err != nil {
		fmt.Println("trouble:", err)
		os.Exit(1)
	}
}
