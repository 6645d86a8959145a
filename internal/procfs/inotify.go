// SPDX-License-Identifier: Apache-2.0

package procfs

import "bytes"

// inotify reads `wd:HEX ino:HEX sdev:HEX mask:HEX ignored_mask:HEX` and a file
// handle, which only root could open.
func (f *fields) inotify() InotifyWatch {
	var w InotifyWatch
	for f.rest = trimLeft(f.rest); len(f.rest) > 0 && f.err == nil; f.rest = trimLeft(f.rest) {
		name, rest, ok := bytes.Cut(f.rest, []byte(":"))
		if !ok {
			f.note(errFdInfo)
			break
		}
		f.rest = rest
		switch string(name) {
		case "wd":
			w.Wd = int(int32(f.uint(16)))
		case "ino":
			w.Ino = f.uint(16)
		case "sdev":
			w.Sdev = f.uint(16)
		case "mask":
			w.Mask = uint32(f.uint(16))
		default:
			f.word()
		}
	}
	return w
}
