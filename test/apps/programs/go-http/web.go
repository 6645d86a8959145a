// SPDX-License-Identifier: Apache-2.0

// Web starts a server, which is another process of the same program, and asks
// it a great many questions from thousands of goroutines.
package main

import (
	"bufio"
	"crypto/sha256"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"
)

const (
	goroutines = 2000
	questions  = 12 // of each
)

func main() {
	var err error
	if len(os.Args) > 1 {
		err = serve()
	} else {
		err = ask()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func serve() error {
	http.HandleFunc("/hash", func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		time.Sleep(5 * time.Millisecond)
		fmt.Fprintf(w, "%x", work(body))
	})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(l.Addr())
	return http.Serve(l, nil)
}

func work(b []byte) [32]byte {
	s := sha256.Sum256(b)
	for range 400 {
		s = sha256.Sum256(s[:])
	}
	return s
}

func ask() error {
	server := exec.Command(os.Args[0], "serve")
	server.Stderr = os.Stderr
	out, err := server.StdoutPipe()
	if err != nil {
		return err
	}
	if err := server.Start(); err != nil {
		return err
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		return err
	}
	url := "http://" + strings.TrimSpace(line) + "/hash"
	client := &http.Client{Transport: &http.Transport{MaxConnsPerHost: 40, MaxIdleConnsPerHost: 40}}
	answers := make([]string, goroutines)
	errs := make([]error, goroutines)
	var all sync.WaitGroup
	for i := range goroutines {
		all.Add(1)
		go func() {
			defer all.Done()
			answers[i] = fmt.Sprint(i)
			for range questions {
				if answers[i], errs[i] = question(client, url, answers[i]); errs[i] != nil {
					return
				}
			}
		}()
	}
	all.Wait()
	for i, err := range errs {
		if err != nil {
			return err
		}
		if i%100 == 0 {
			fmt.Println(i, answers[i])
		}
	}
	fmt.Printf("%x\n", sha256.Sum256([]byte(strings.Join(answers, " "))))
	return server.Process.Kill()
}

func question(client *http.Client, url, text string) (string, error) {
	r, err := client.Post(url, "text/plain", strings.NewReader(text))
	if err != nil {
		return "", err
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	if err == nil && r.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", r.Status, body)
	}
	return string(body), err
}
