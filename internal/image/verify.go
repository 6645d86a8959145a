// SPDX-License-Identifier: Apache-2.0

package image

import (
	"context"
	"fmt"
	"io"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
)

// Verify reads everything that Open did not: every chunk, decoded as at resume,
// and every saved file. progress, which may be nil, is told the bytes done, by
// one goroutine at a time. ErrProviderChecks: there is nothing to check them by.
func (r *Reader) Verify(ctx context.Context, progress func(done, total int64)) error {
	if r.ProviderChecks() {
		return fmt.Errorf("image %s: %w", r.dir.path, ErrProviderChecks)
	}
	v := &verifier{r: r, progress: progress, total: -align} // Open has read the header
	for name, e := range r.man.entries {
		if name == pagesName || strings.HasPrefix(name, filesDir+"/") {
			v.total += e.size
		}
	}
	g, ctx := errgroup.WithContext(ctx)
	for range min(4, runtime.GOMAXPROCS(0)) {
		g.Go(func() error { return v.chunks(ctx) })
	}
	g.Go(func() error { return v.files(ctx) })
	return g.Wait()
}

type verifier struct {
	r     *Reader
	next  atomic.Int64 // chunk
	total int64

	mu       sync.Mutex // guards what follows
	done     int64
	progress func(done, total int64)
}

func (v *verifier) add(n int64) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.done += n
	if v.progress != nil {
		v.progress(v.done, v.total)
	}
}

func (v *verifier) chunks(ctx context.Context) error {
	buf := NewBuffer()
	defer FreeBuffer(buf)
	for {
		i := int(v.next.Add(1)) - 1
		if i >= len(v.r.index.Chunks) {
			return nil
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if _, err := v.r.ReadChunk(i, buf); err != nil {
			return err
		}
		v.add(int64(padded(int(v.r.index.Chunks[i].StoredLen))))
	}
}

func (v *verifier) files(ctx context.Context) error {
	buf := NewBuffer()
	defer FreeBuffer(buf)
	for _, name := range v.r.man.names() {
		if n, ok := strings.CutPrefix(name, filesDir+"/"); ok {
			if err := v.file(ctx, n, buf); err != nil {
				return err
			}
		}
	}
	return nil
}

func (v *verifier) file(ctx context.Context, name string, buf []byte) error {
	f, err := v.r.OpenFile(name)
	if err != nil {
		return err
	}
	defer f.Close()
	for {
		n, err := f.Read(buf)
		v.add(int64(n))
		if err == io.EOF {
			return ctx.Err()
		}
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return err
		}
	}
}
