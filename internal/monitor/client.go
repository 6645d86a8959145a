// SPDX-License-Identifier: Apache-2.0

package monitor

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"

	"github.com/esky-hpc/esky/internal/engine"
)

// errNoMonitor says that nobody listens on the control socket of a job.
var errNoMonitor = errors.New("no monitor answers")

// Call sends a request to the monitor of a job on this host and waits for the
// answer. The error of a monitor that answered "no" is an *Error.
func Call(ctx context.Context, socket string, req Request, progress func(engine.Progress)) (Reply, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", socket)
	if err != nil {
		return Reply{}, fmt.Errorf("%w on %s: %w", errNoMonitor, socket, err)
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	req.Progress = progress != nil
	line, err := json.Marshal(req)
	if err != nil {
		return Reply{}, err
	}
	if _, err := conn.Write(append(line, '\n')); err != nil {
		return Reply{}, fmt.Errorf("ask the monitor: %w", err)
	}
	return listen(ctx, conn, progress)
}

func listen(ctx context.Context, conn net.Conn, progress func(engine.Progress)) (Reply, error) {
	lines := bufio.NewScanner(conn)
	lines.Buffer(nil, longestReply)
	for lines.Scan() {
		var r Reply
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			return Reply{}, fmt.Errorf("read the monitor's answer: %w", err)
		}
		switch {
		case r.Done && r.Error != "":
			return r, &Error{Code: r.Code, Err: errors.New(r.Error), Hint: r.Hint}
		case r.Done:
			return r, nil
		case r.Progress != nil && progress != nil:
			progress(*r.Progress)
		}
	}
	if ctx.Err() != nil {
		return Reply{}, ctx.Err()
	}
	return Reply{}, Fail(ExitInternal, "see what `esky-wrap status` says of the job", "the monitor hung up before it answered")
}
