// SPDX-License-Identifier: Apache-2.0

package image

import (
	"cmp"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/esky-hpc/esky/internal/image/imagepb"
	"github.com/zeebo/xxh3"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/proto"
)

// Writer writes one image. AddChunk and CreateFile may be called by several
// goroutines; Finish or Abort ends it when they all have returned.
type Writer struct {
	dir     *directory
	pages   *pageFile
	encode  encodeFunc // nil: store as it is
	kind    imagepb.Chunk_Codec
	scratch *pool
	next    atomic.Int64 // where the next chunk goes
	written atomic.Int64

	syncs   sync.WaitGroup // of saved files
	syncing chan struct{}  // a place for each

	mu     sync.Mutex // guards what follows
	chunks []*imagepb.Chunk
	shared []*imagepb.Shared
	man    manifest
	open   int   // saved files not closed yet
	err    error // the first one; nothing works after it
}

// Create begins an image in dir, which must exist, be empty, and be writable by
// nobody else.
func Create(dir string, codec Codec) (*Writer, error) { return create(dir, codec, Version) }

// CreateForeign begins an image for the files of another provider; checked: one with
// checksums of its own.
func CreateForeign(dir string, checked bool) (*Writer, error) {
	if checked {
		return create(dir, Codec{}, CheckedVersion)
	}
	return create(dir, Codec{}, ForeignVersion)
}

func create(dir string, codec Codec, version uint32) (*Writer, error) {
	encode, err := codec.encoder()
	if err != nil {
		return nil, err
	}
	d, err := openDirectory(dir)
	if err != nil {
		return nil, fmt.Errorf("create image: %w", err)
	}
	w := &Writer{dir: d, encode: encode, kind: codec.Kind, scratch: newPool(), syncing: make(chan struct{}, syncsAtATime),
		man: manifest{version: version, entries: map[string]entry{}}}
	if err := w.begin(); err != nil {
		w.close()
		return nil, err
	}
	return w, nil
}

func (w *Writer) begin() error {
	if why, err := unsafeReason(w.dir.f); err != nil {
		return fmt.Errorf("create image %s: %w", w.dir.path, err)
	} else if why != "" {
		return &UnsafeError{w.dir.path, w.dir.path, why}
	}
	names, err := w.dir.names(".")
	if err != nil {
		return fmt.Errorf("create image %s: %w", w.dir.path, err)
	}
	if len(names) > 0 {
		return fmt.Errorf("create image %s: it holds %s already", w.dir.path, names[0])
	}
	w.pages, err = w.dir.openPages(unix.O_RDWR | unix.O_CREAT | unix.O_EXCL)
	if err != nil {
		return fmt.Errorf("create image %s: %w", w.dir.path, err)
	}
	b := w.scratch.get()
	defer w.scratch.put(b)
	copy(b, header(w.man.version))
	w.next.Store(align)
	return w.write(b[:align], 0)
}

func (w *Writer) write(b []byte, off int64) error {
	if err := w.pages.writeAt(b, off); err != nil {
		return w.fail(fmt.Errorf("write %s/%s at %d: %w", w.dir.path, pagesName, off, err))
	}
	w.written.Add(int64(len(b)))
	return nil
}

// AddChunk stores the pages of the extents, whose bytes follow each other in
// raw: of the process pid, or of an object where pid is 0. It encodes and
// writes in the caller's goroutine and may be called by several at a time. raw
// is page aligned, as NewBuffer's are, and free for other use afterwards; the
// extents belong to the Writer from now on.
func (w *Writer) AddChunk(pid int32, object uint32, extents []*imagepb.Extent, raw []byte) error {
	c := &imagepb.Chunk{RawLen: uint32(len(raw)), StoredLen: uint32(len(raw)),
		Pid: pid, Object: object, Extents: extents}
	if len(raw) > ChunkSize {
		return fmt.Errorf("add chunk: %d bytes", len(raw))
	}
	if err := checkChunk(c); err != nil {
		return fmt.Errorf("add chunk: %w", err)
	}
	if err := w.failed(); err != nil {
		return err
	}
	scratch := w.scratch.get()
	defer w.scratch.put(scratch)
	stored := w.encodeChunk(c, scratch, raw)
	c.Xxh3 = xxh3.Hash(stored)
	end := w.next.Add(int64(len(stored)))
	c.FileOffset = uint64(end) - uint64(len(stored))
	if err := w.write(stored, int64(c.FileOffset)); err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.chunks = append(w.chunks, c)
	return nil
}

// encodeChunk returns what is to be stored, padded, and says in c how it is
// encoded. What does not get smaller by a unit at least is stored as it is.
func (w *Writer) encodeChunk(c *imagepb.Chunk, scratch, raw []byte) []byte {
	if w.encode == nil {
		return raw
	}
	enc := w.encode(scratch, raw)
	n := padded(len(enc))
	if n >= len(raw) {
		return raw
	}
	// An encoder that wanted more room than scratch has moved elsewhere.
	copy(scratch, enc)
	clear(scratch[len(enc):n])
	c.Codec, c.StoredLen = w.kind, uint32(len(enc))
	return scratch[:n]
}

// Written returns the bytes written so far.
func (w *Writer) Written() int64 { return w.written.Load() }

func (w *Writer) failed() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.err
}

// fail makes err the answer to whatever is asked from now on: an image that
// lacks a part must never be finished.
func (w *Writer) fail(err error) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err == nil {
		w.err = err
	}
	return err
}

// Finish writes index, metadata and manifest, the last one after all else is on
// storage, and closes the image. It is durable when Finish returns nil, except
// for the name of its directory.
func (w *Writer) Finish(meta *imagepb.Image) error {
	defer w.Abort()
	w.syncs.Wait()
	if err := w.failed(); err != nil {
		return err
	}
	if meta == nil {
		return w.fail(fmt.Errorf("finish image %s: no metadata", w.dir.path))
	}
	if w.open > 0 {
		return w.fail(fmt.Errorf("finish image %s: %d saved files are still open", w.dir.path, w.open))
	}
	slices.SortFunc(w.chunks, func(a, b *imagepb.Chunk) int { return cmp.Compare(a.FileOffset, b.FileOffset) })
	slices.SortStableFunc(w.shared, func(a, b *imagepb.Shared) int {
		return cmp.Or(cmp.Compare(a.Pid, b.Pid), cmp.Compare(a.From, b.From), cmp.Compare(a.Extents[0].Addr, b.Extents[0].Addr))
	})
	index := &imagepb.PageIndex{Chunks: w.chunks, Shared: w.shared}
	if err := checkShared(index); err != nil {
		return w.fail(fmt.Errorf("finish image %s: %w", w.dir.path, err))
	}
	for _, step := range []func() error{
		func() error { return w.writeMessage(indexName, index) },
		func() error { return w.writeMessage(metaName, meta) },
		w.syncPages,
		w.syncFiles,
		func() error { return w.writeSmall(manifestName, w.man.encode()) },
		func() error { return syncDir(w.dir.f) },
	} {
		if err := step(); err != nil {
			return w.fail(fmt.Errorf("finish image %s: %w", w.dir.path, err))
		}
	}
	return nil
}

func (w *Writer) writeMessage(name string, m proto.Message) error {
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		return fmt.Errorf("encode %s: %w", name, err)
	}
	w.man.add(entry{name, int64(len(b)), sha256.Sum256(b)})
	return w.writeSmall(name, b)
}

func (w *Writer) writeSmall(name string, b []byte) error {
	f, err := w.dir.open(name, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.Write(b); err != nil {
		return err
	}
	w.written.Add(int64(len(b)))
	return f.Sync()
}

// syncPages is needed after O_DIRECT too: the file's size and extents are in
// the page cache, and the bytes perhaps in the device's (open(2), O_DIRECT).
func (w *Writer) syncPages() error {
	w.man.add(entry{name: pagesName, size: w.next.Load()})
	return w.pages.buffered.Sync()
}

// syncFiles makes the names of the saved files durable; what is in them is.
func (w *Writer) syncFiles() error {
	d, err := w.dir.open(filesDir, unix.O_RDONLY|unix.O_DIRECTORY)
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return err
	}
	defer d.Close()
	return syncDir(d)
}

// Abort closes the image and leaves it as it is, without a manifest. After
// Finish it does nothing.
func (w *Writer) Abort() {
	if w.fail(errClosed); w.dir != nil {
		w.close()
	}
}

func (w *Writer) close() {
	w.syncs.Wait()
	if w.pages != nil {
		w.pages.close()
	}
	w.dir.close()
	w.scratch.close()
	w.dir, w.pages = nil, nil
}

// CreateFile adds the saved file files/NAME; name is a decimal number. The file
// is part of the image once Close, and then Finish, have returned nil.
func (w *Writer) CreateFile(name string) (io.WriteCloser, error) {
	if !validFileName(name) {
		return nil, fmt.Errorf("saved file name %q is not a plain number", name)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err != nil {
		return nil, w.err
	}
	// EEXIST: not the first saved file.
	if err := unix.Mkdirat(int(w.dir.f.Fd()), filesDir, 0o700); err != nil && !errors.Is(err, unix.EEXIST) {
		return nil, fmt.Errorf("create %s/%s: %w", w.dir.path, filesDir, err)
	}
	path := filesDir + "/" + name
	f, err := w.dir.open(path, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL)
	if err != nil {
		return nil, fmt.Errorf("image %s: %w", w.dir.path, err)
	}
	w.open++
	return &savedWriter{w: w, f: f, name: path, hash: sha256.New()}, nil
}
