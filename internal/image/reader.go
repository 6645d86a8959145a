// SPDX-License-Identifier: Apache-2.0

package image

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"github.com/esky-hpc/esky/internal/image/imagepb"
	"github.com/zeebo/xxh3"
	"golang.org/x/sys/unix"
)

var errChecksum = errors.New("the checksum does not match")

// Reader reads an image that Open found in order. Its methods may be called by
// several goroutines.
type Reader struct {
	dir     *directory
	pages   *pageFile
	man     *manifest
	meta    *imagepb.Image
	index   *imagepb.PageIndex
	scratch *pool
}

// Open checks who could have written the image, that exactly the files of its
// manifest are there in their right sizes, and the contents of metadata and
// index. Pages and saved files are checked when they are read; Verify reads all
// of them.
//
// The error is a *DamagedError, *UnsafeError or *VersionError, or says that
// this process has run out of something.
func Open(dir string) (*Reader, error) {
	d, err := openDirectory(dir)
	if err != nil {
		return nil, ioError(dir, "directory", err)
	}
	r := &Reader{dir: d, scratch: newPool()}
	for _, step := range []func() error{r.openManifest, r.checkNames, r.openMeta, r.openPages} {
		if err := step(); err != nil {
			r.Close()
			return nil, err
		}
	}
	return r, nil
}

// Close gives up the image's files.
func (r *Reader) Close() error {
	if r.pages != nil {
		r.pages.close()
	}
	r.dir.close()
	r.scratch.close()
	return nil
}

// Meta returns the metadata. It is shared: do not change it.
func (r *Reader) Meta() *imagepb.Image { return r.meta }

// Index returns the chunks in the order of the file. It is shared: do not
// change it.
func (r *Reader) Index() *imagepb.PageIndex { return r.index }

// ErrProviderChecks says that only the provider which has made the image can tell
// whether its files are good.
var ErrProviderChecks = errors.New("its provider alone can verify it")

// ProviderChecks tells whether the image is such a one.
func (r *Reader) ProviderChecks() bool { return r.man.version == CheckedVersion }

// Dir returns the directory of the image.
func (r *Reader) Dir() string { return r.dir.path }

// Size returns the bytes of all files but the manifest.
func (r *Reader) Size() int64 {
	var n int64
	for _, e := range r.man.entries {
		n += e.size
	}
	return n
}

func (r *Reader) damaged(what string, err error) error {
	return &DamagedError{r.dir.path, what, err}
}

func (r *Reader) openManifest() error {
	if err := r.checkSafe(r.dir.f, r.dir.path); err != nil {
		return err
	}
	b, err := r.readSmall(manifestName, maxManifest)
	if err != nil {
		return err
	}
	version, err := manifestVersion(b)
	if err != nil {
		return r.damaged(manifestName, err)
	}
	if version < oldest || version > CheckedVersion {
		return &VersionError{r.dir.path, version, CheckedVersion}
	}
	if r.man, err = parseManifest(b); err != nil {
		return r.damaged(manifestName, err)
	}
	return nil
}

// checkNames compares the directory with the manifest: nothing missing, nothing
// added, all of it safe, plain and of its size.
func (r *Reader) checkNames() error {
	have, err := r.listing()
	if err != nil {
		return err
	}
	for _, name := range have {
		if _, ok := r.man.entries[name]; !ok {
			return r.damaged(name, errors.New("it is not in the manifest"))
		}
	}
	for _, name := range r.man.names() {
		f, err := r.openEntry(r.man.entries[name])
		if err != nil {
			return err
		}
		f.Close()
	}
	return nil
}

// listing returns the names that the manifest must have.
func (r *Reader) listing() ([]string, error) {
	names, err := r.dir.names(".")
	if err != nil {
		return nil, ioError(r.dir.path, "directory", err)
	}
	var all []string
	for _, name := range names {
		switch name {
		case manifestName:
		case filesDir:
			files, err := r.savedNames()
			if err != nil {
				return nil, err
			}
			all = append(all, files...)
		default:
			all = append(all, name)
		}
	}
	return all, nil
}

func (r *Reader) savedNames() ([]string, error) {
	d, err := r.dir.open(filesDir, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return nil, ioError(r.dir.path, filesDir, err)
	}
	defer d.Close()
	if err := r.checkSafe(d, filesDir); err != nil {
		return nil, err
	}
	names, err := d.Readdirnames(-1)
	if err != nil {
		return nil, ioError(r.dir.path, filesDir, err)
	}
	if len(names) == 0 {
		return nil, r.damaged(filesDir, errors.New("it is empty"))
	}
	for i := range names {
		names[i] = filesDir + "/" + names[i]
	}
	return names, nil
}

// openEntry opens a file of the manifest and checks all but its contents.
func (r *Reader) openEntry(e entry) (*os.File, error) {
	f, size, err := r.openSafe(e.name)
	if err != nil {
		return nil, err
	}
	if size != e.size {
		f.Close()
		return nil, r.damaged(e.name, fmt.Errorf("%d bytes, want %d", size, e.size))
	}
	return f, nil
}

func (r *Reader) openSafe(name string) (*os.File, int64, error) {
	f, err := r.dir.open(name, unix.O_RDONLY)
	if err != nil {
		return nil, 0, ioError(r.dir.path, name, err)
	}
	if err := r.checkSafe(f, name); err != nil {
		f.Close()
		return nil, 0, err
	}
	st, err := f.Stat()
	if err == nil && !st.Mode().IsRegular() {
		err = r.damaged(name, errors.New("it is no regular file"))
	}
	if err != nil {
		f.Close()
		return nil, 0, err
	}
	return f, st.Size(), nil
}

func (r *Reader) checkSafe(f *os.File, name string) error {
	why, err := unsafeReason(f)
	if err != nil {
		return ioError(r.dir.path, name, err)
	}
	if why != "" {
		return &UnsafeError{r.dir.path, name, why}
	}
	return nil
}

// readSmall reads a file into memory that is no larger than limit. The memory
// is what the file has, not what anything claims.
func (r *Reader) readSmall(name string, limit int64) ([]byte, error) {
	f, size, err := r.openSafe(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if size > limit {
		return nil, r.damaged(name, fmt.Errorf("%d bytes are too many", size))
	}
	b := make([]byte, size)
	if _, err := io.ReadFull(f, b); err != nil {
		return nil, ioError(r.dir.path, name, err)
	}
	return b, nil
}

// maxMessage is what a protobuf message can have at most.
const maxMessage = 1<<31 - 1

func (r *Reader) readMessage(name string) ([]byte, error) {
	b, err := r.readSmall(name, maxMessage)
	if err != nil {
		return nil, err
	}
	if sha256.Sum256(b) != r.man.entries[name].sum {
		return nil, r.damaged(name, errChecksum)
	}
	return b, nil
}

func (r *Reader) openMeta() error {
	b, err := r.readMessage(metaName)
	if err != nil {
		return err
	}
	if r.meta, err = decodeMeta(b); err != nil {
		return r.damaged(metaName, err)
	}
	if r.ProviderChecks() && r.meta.Foreign == nil {
		return r.damaged(metaName, errors.New("it names no provider"))
	}
	if b, err = r.readMessage(indexName); err != nil {
		return err
	}
	if r.index, err = decodeIndex(b, r.man.entries[pagesName].size); err != nil {
		return r.damaged(indexName, err)
	}
	return nil
}

func (r *Reader) openPages() error {
	pages, err := r.dir.openPages(unix.O_RDONLY)
	if err != nil {
		return ioError(r.dir.path, pagesName, err)
	}
	r.pages = pages
	h := make([]byte, align)
	if err := pages.readAt(h, 0); err != nil {
		return r.readError("header of "+pagesName, err)
	}
	if err := checkHeader(h, r.man.version); err != nil {
		return r.damaged(pagesName, err)
	}
	return nil
}

// readError is ioError for files whose size has been checked: to end early is
// damage there.
func (r *Reader) readError(what string, err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return r.damaged(what, io.ErrUnexpectedEOF)
	}
	return ioError(r.dir.path, what, err)
}

// ReadChunk returns the pages of chunk i, read into buf where buf is large
// enough; one of NewBuffer always is, and takes the bytes by O_DIRECT. Callers
// with different buffers may run at the same time.
func (r *Reader) ReadChunk(i int, buf []byte) ([]byte, error) {
	if i < 0 || i >= len(r.index.Chunks) {
		return nil, fmt.Errorf("image %s has no chunk %d", r.dir.path, i)
	}
	c := r.index.Chunks[i]
	if cap(buf) < int(c.RawLen) {
		buf = make([]byte, c.RawLen)
	}
	raw := buf[:c.RawLen]
	if c.Codec == imagepb.Chunk_RAW {
		return raw, r.readStored(i, c, raw)
	}
	scratch := r.scratch.get()
	defer r.scratch.put(scratch)
	stored := scratch[:padded(int(c.StoredLen))]
	if err := r.readStored(i, c, stored); err != nil {
		return nil, err
	}
	if err := decode(c.Codec, raw, stored[:c.StoredLen]); err != nil {
		return nil, r.damaged(chunkName(i), err)
	}
	return raw, nil
}

func (r *Reader) readStored(i int, c *imagepb.Chunk, b []byte) error {
	if err := r.pages.readAt(b, int64(c.FileOffset)); err != nil {
		return r.readError(chunkName(i), err)
	}
	if xxh3.Hash(b) != c.Xxh3 {
		return r.damaged(chunkName(i), errChecksum)
	}
	if !allZero(b[c.StoredLen:]) {
		return r.damaged(chunkName(i), errors.New("its padding is not zero"))
	}
	return nil
}

func chunkName(i int) string { return fmt.Sprintf("chunk %d of %s", i, pagesName) }

// OpenFile opens a saved file by the name that CreateFile had. Its contents are
// checked on the way: they are good when Read has returned io.EOF, and a
// *DamagedError comes in its place when they are not. ErrProviderChecks: nobody here
// can tell.
func (r *Reader) OpenFile(name string) (io.ReadCloser, error) {
	e, ok := r.man.entries[filesDir+"/"+name]
	if !ok || !validFileName(name) {
		return nil, fmt.Errorf("image %s: saved file %q: %w", r.dir.path, name, fs.ErrNotExist)
	}
	if r.ProviderChecks() {
		return nil, fmt.Errorf("image %s: %w", r.dir.path, ErrProviderChecks)
	}
	f, err := r.openEntry(e)
	if err != nil {
		return nil, err
	}
	return &savedReader{dir: r.dir.path, f: f, want: e, hash: sha256.New()}, nil
}
