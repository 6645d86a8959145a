// SPDX-License-Identifier: Apache-2.0

// Package pages moves memory between processes and images: which pages a
// process has of its own (Scan), out of it into chunks of an image (Store), and
// back (Load).
//
// Memory is read through /proc/PID/mem. That leaves the pages of a snapshot
// shared with the job, which process_vm_readv(2) and O_DIRECT writes by the
// snapshot would not: they pin pages, and the kernel copies a shared anonymous
// page before it pins it.
package pages

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync/atomic"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/esky-hpc/esky/internal/image"
	"github.com/esky-hpc/esky/internal/image/imagepb"
)

// PageSize is the size of a page on the architectures there are.
const PageSize = 4096

// Source is memory to be stored: the ranges of one process, or of an object.
type Source struct {
	Pid    int32  // as in imagepb.Chunk
	Object uint32 //
	Ranges []Range
	// ReadAt fills b from the address, in the process or in the object.
	ReadAt func(b []byte, addr uint64) error
}

// Bytes is how much there is to store at most.
func Bytes(sources []Source) (n int64) {
	for _, s := range sources {
		for _, r := range s.Ranges {
			n += int64(r.Len())
		}
	}
	return n
}

// workers is how many chunks are in the making at a time: one is being read
// while another is being written.
const workers = 3

// Store writes the sources into the image. Pages of zeros are left out: fresh
// memory is zero anyway. What an earlier source has at the same address is not
// stored again but noted as shared, and taken out of the later source's ranges.
// tick is told of every piece that is done.
func Store(ctx context.Context, w *image.Writer, sources []Source, tick func(bytes int)) error {
	var batch []task
	for i := range sources {
		kin, err := findKin(&sources[i], sources[i+1:])
		if err != nil {
			return err
		}
		batch = append(batch, task{&sources[i], kin})
		if len(kin) == 0 {
			continue
		}
		if err := storeAll(ctx, w, batch, tick); err != nil {
			return err
		}
		batch = nil
		for _, k := range kin {
			shared := Union(k.shared)
			w.Share(k.Pid, sources[i].Pid, ToExtents(shared))
			k.Ranges = Subtract(k.Ranges, shared)
			tick(int(total(shared)))
		}
	}
	return storeAll(ctx, w, batch, tick)
}

// task is a source and those that may share with it.
type task struct {
	*Source
	kin []*kin
}

func storeAll(ctx context.Context, w *image.Writer, tasks []task, tick func(bytes int)) error {
	pieces := make(chan piece, workers)
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		defer close(pieces)
		for i := range tasks {
			if err := cut(ctx, &tasks[i], pieces); err != nil {
				return err
			}
		}
		return nil
	})
	for range workers {
		group.Go(func() error {
			buf, theirs := image.NewBuffer(), image.NewBuffer()
			defer image.FreeBuffer(buf)
			defer image.FreeBuffer(theirs)
			for p := range pieces {
				if err := p.store(w, buf, theirs); err != nil {
					return err
				}
				tick(p.bytes)
			}
			return nil
		})
	}
	return group.Wait()
}

// piece is as many ranges as fit in one chunk.
type piece struct {
	source *task
	ranges []Range
	bytes  int
}

func cut(ctx context.Context, s *task, out chan<- piece) error {
	send := func(p piece) error {
		select {
		case out <- p:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	p := piece{source: s}
	for _, r := range s.Ranges {
		for r.Start < r.End {
			part := Range{r.Start, min(r.End, r.Start+uint64(image.ChunkSize-p.bytes))}
			p.ranges = append(p.ranges, part)
			p.bytes += int(part.Len())
			r.Start = part.End
			if p.bytes == image.ChunkSize {
				if err := send(p); err != nil {
					return err
				}
				p = piece{source: s}
			}
		}
	}
	if p.bytes == 0 {
		return nil
	}
	return send(p)
}

func (p piece) store(w *image.Writer, buf, theirs []byte) error {
	n := 0
	for _, r := range p.ranges {
		b := buf[n : n+int(r.Len())]
		if err := p.source.ReadAt(b, r.Start); err != nil {
			return err
		}
		n += len(b)
	}
	for _, k := range p.source.kin {
		if err := k.compare(p.ranges, buf[:n], theirs); err != nil {
			return err
		}
	}
	extents, raw := dropZeros(p.ranges, buf[:n])
	if len(raw) == 0 {
		return nil
	}
	return w.AddChunk(p.source.Pid, p.source.Object, extents, raw)
}

// dropZeros closes the gaps that pages of zeros leave, in place.
func dropZeros(ranges []Range, raw []byte) ([]*imagepb.Extent, []byte) {
	var extents []*imagepb.Extent
	kept, at := 0, 0
	for _, r := range ranges {
		for addr := r.Start; addr < r.End; addr += PageSize {
			page := raw[at : at+PageSize]
			at += PageSize
			if isZero(page) {
				continue
			}
			if kept != at-PageSize {
				copy(raw[kept:], page)
			}
			kept += PageSize
			extents = extend(extents, addr)
		}
	}
	return extents, raw[:kept]
}

func extend(extents []*imagepb.Extent, addr uint64) []*imagepb.Extent {
	if n := len(extents); n > 0 {
		last := extents[n-1]
		if last.Addr+uint64(last.Pages)*PageSize == addr {
			last.Pages++
			return extents
		}
	}
	return append(extents, &imagepb.Extent{Addr: addr, Pages: 1})
}

// isZero looks at the words of a page; most pages differ in the first few.
func isZero(page []byte) bool {
	for i := 0; i < len(page); i += 64 {
		if *(*[64]byte)(page[i : i+64]) != [64]byte{} {
			return false
		}
	}
	return true
}

// Memory is an open /proc/PID/mem.
type Memory struct {
	f   *os.File
	pid int
}

// OpenMemory opens the memory of a tracee for reading and writing. Writes go
// through the protection of private mappings, as for a debugger (ptrace(2)).
func OpenMemory(pid int) (*Memory, error) {
	f, err := os.OpenFile(fmt.Sprintf("/proc/%d/mem", pid), os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	return &Memory{f, pid}, nil
}

// ReadAt fills b from addr.
func (m *Memory) ReadAt(b []byte, addr uint64) error {
	_, err := m.f.ReadAt(b, int64(addr))
	if errors.Is(err, unix.EIO) {
		err = ErrUnreadable // not that of a disk
	}
	if err != nil {
		return fmt.Errorf("read %d bytes of memory at %#x: %w", len(b), addr, err)
	}
	return nil
}

// ErrUnreadable says that there is nothing to read at an address.
var ErrUnreadable = errors.New("there is no memory that can be read")

// Fill copies b to memory at addr that nobody has touched yet. It is WriteAt,
// but faster where the mapping may be written to: process_vm_writev(2) takes
// many pages at a time.
func (m *Memory) Fill(b []byte, addr uint64) error {
	if processVMWrite(m.pid, b, addr) == nil {
		return nil
	}
	return m.WriteAt(b, addr)
}

// WriteAt copies b to addr.
func (m *Memory) WriteAt(b []byte, addr uint64) error {
	if _, err := m.f.WriteAt(b, int64(addr)); err != nil {
		return fmt.Errorf("write %d bytes of memory at %#x: %w", len(b), addr, err)
	}
	return nil
}

// Close closes the file.
func (m *Memory) Close() error { return m.f.Close() }

// Sink is where loaded memory goes: WriteAt of the process or the object.
type Sink func(b []byte, addr uint64) error

// Load reads chunks of the image, checks each, and writes their pages to the
// sinks. A chunk without a sink is an error.
func Load(ctx context.Context, r *image.Reader, which []int, sink func(c *imagepb.Chunk) Sink, tick func(bytes int)) error {
	chunks := r.Index().Chunks
	var next atomic.Int64
	group, ctx := errgroup.WithContext(ctx)
	for range workers {
		group.Go(func() error {
			buf := image.NewBuffer()
			defer image.FreeBuffer(buf)
			for ctx.Err() == nil {
				n := int(next.Add(1)) - 1
				if n >= len(which) {
					return nil
				}
				i := which[n]
				if err := loadChunk(r, i, buf, sink(chunks[i])); err != nil {
					return err
				}
				tick(int(chunks[i].RawLen))
			}
			return ctx.Err()
		})
	}
	return group.Wait()
}

func loadChunk(r *image.Reader, i int, buf []byte, to Sink) error {
	c := r.Index().Chunks[i]
	if to == nil {
		return fmt.Errorf("chunk %d belongs to no process and no object", i)
	}
	raw, err := r.ReadChunk(i, buf)
	if err != nil {
		return err
	}
	for _, e := range c.Extents {
		n := int(e.Pages) * PageSize
		if err := to(raw[:n], e.Addr); err != nil {
			return err
		}
		raw = raw[n:]
	}
	return nil
}
