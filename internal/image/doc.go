// SPDX-License-Identifier: Apache-2.0

// Package image is the format of a checkpoint on storage: it writes, reads and
// verifies one generation of one job, and knows nothing about processes.
//
// An image is a directory:
//
//	manifest     text: every other file with its size and checksum; written last
//	meta.pb      imagepb.Image: all of the job but the bytes of its memory
//	index.pb     imagepb.PageIndex: where in pages.img which pages are
//	pages.img    a header of 4096 bytes, then chunks
//	files/N      saved files, only where there are any
//
//	pages.img    0      4096                   chunk            chunk
//	             +------+----------------------+----------------+--- ... ---+
//	             |header|pages, raw or encoded 0|pages         00|           |
//	             +------+----------------------+----------------+--- ... ---+
//
// Chunks start at multiples of 4096 and are padded to one with zeros, so that
// they can be written and read by O_DIRECT. They follow each other without
// gaps: every byte of the file belongs to the header, which is constant, or to
// a chunk, whose hash covers its padding too.
//
// The chain of trust runs from the last line of the manifest (the SHA-256 of
// the lines before it) to the checksums of meta.pb, index.pb and the saved
// files, and from index.pb to the hash of each chunk. So no byte of any file
// can change, and no file appear, disappear or change its length, unnoticed.
// These are checksums, not signatures: against other people there is
// ownership, which Open checks (UnsafeError).
//
// docs/format.md describes the format byte by byte.
package image
