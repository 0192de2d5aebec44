package blobcache

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"hostlocal/manifest"
)

const (
	mapSuffix = ".map"

	// mapStep is how many bytes a fetch lands between two records of the map, and
	// so what a kill -9 may cost each fetch under way. A record is one write of 24
	// bytes: at 256 KiB they cost nothing that a profile shows.
	mapStep = 256 << 10

	recordSize = 24 // off, end, and a checksum of both

	// maxMap is the largest map that is read: nothing of ours gets there, as a blob
	// of a TiB comes with a map of 100 MiB.
	maxMap = 256 << 20
)

// bootID names this boot of the kernel: what a process wrote is in the page cache
// until the next one, synced or not.
var bootID = sync.OnceValue(func() string {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "" // such a map never counts
	}
	return strings.TrimSpace(string(b))
})

// mapHeader is the first line of a map.
type mapHeader struct {
	Boot   string `json:"boot"`
	Size   int64  `json:"size"`
	Origin string `json:"origin"`
}

// partial is the file of an unfinished fill, and the map of which of its bytes
// have landed: a line of JSON, then records that are only ever appended, each
// behind the bytes that it names. A torn record ends the map. After a power loss
// the map may name bytes that never reached the disk, so it names the boot that
// wrote it and counts only within that boot.
type partial struct {
	path string
	f    *os.File

	mu sync.Mutex // guards m and the order of what is written to it
	m  *os.File   // nil while there is no map: the size is unknown, or not worth one
}

// openPartial opens d's partial file, with the spans that an earlier fill left if
// its map counts and the file has them. blocks is what the ledger has for it.
func (c *Cache) openPartial(d manifest.Digest) (p *partial, h mapHeader, landed spans, blocks int64, err error) {
	path := filepath.Join(c.dir, partialDir, partialName(d))
	defer c.places.lock(d)()
	blocks, known := c.scraps.claim(path)
	h, landed, ok := readMap(path + mapSuffix)
	if !ok || !known || !reaches(path, landed) {
		os.Remove(path + mapSuffix)
		os.Remove(path)
		c.ledger.add(-blocks)
		blocks, landed, h = 0, nil, mapHeader{Size: -1}
	}
	const flags = os.O_RDWR | os.O_CREATE | unix.O_NOFOLLOW
	f, err := os.OpenFile(path, flags, 0o644)
	if errors.Is(err, os.ErrPermission) {
		// A kill between the seal and the name left it read-only. (reaches has
		// seen that it is a plain file.)
		if err = os.Chmod(path, 0o644); err == nil {
			f, err = os.OpenFile(path, flags, 0o644)
		}
	}
	if errors.Is(err, os.ErrNotExist) {
		if err = makeFolders(c.dir); err == nil {
			f, err = os.OpenFile(path, flags, 0o644)
		}
	}
	if err != nil {
		if blocks > 0 {
			c.scraps.add(path, blocks) // it is there all the same
		}
		return nil, h, nil, 0, fmt.Errorf("opening the partial file: %w", err)
	}
	return &partial{path: path, f: f}, h, landed, blocks, nil
}

// reaches reports whether the file at path is long enough for what its map says.
func reaches(path string, landed spans) bool {
	fi, err := os.Lstat(path)
	return err == nil && fi.Mode().IsRegular() && (len(landed) == 0 || fi.Size() >= landed[len(landed)-1].end)
}

// startMap begins the map, with what has landed before.
func (p *partial) startMap(h mapHeader, landed spans) error {
	h.Boot = bootID()
	line, err := json.Marshal(h)
	if err != nil {
		return err
	}
	b := append(line, '\n')
	for _, s := range landed {
		b = appendRecord(b, s)
	}
	tmp := p.path + mapSuffix + ".tmp"
	if err := os.WriteFile(tmp, b, 0o644); err != nil {
		return err
	}
	if err := os.Rename(tmp, p.path+mapSuffix); err != nil {
		return err
	}
	m, err := os.OpenFile(p.path+mapSuffix, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	p.closeMap()
	p.mu.Lock()
	p.m = m
	p.mu.Unlock()
	return nil
}

// record notes that s has been written. A map that cannot be written only costs a
// later fill the bytes that it does not name.
func (p *partial) record(s span) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.m != nil && s.len() > 0 {
		_, _ = p.m.Write(appendRecord(nil, s))
	}
}

func appendRecord(b []byte, s span) []byte {
	at := len(b)
	b = binary.LittleEndian.AppendUint64(b, uint64(s.off))
	b = binary.LittleEndian.AppendUint64(b, uint64(s.end))
	return binary.LittleEndian.AppendUint64(b, uint64(crc32.ChecksumIEEE(b[at:])))
}

// readMap reads a map that counts: of this boot, with a size.
func readMap(path string) (h mapHeader, landed spans, ok bool) {
	fi, err := os.Lstat(path)
	if err != nil || fi.Size() > maxMap {
		return h, nil, false
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return h, nil, false
	}
	line, records, ok := bytes.Cut(b, []byte("\n"))
	if !ok || json.Unmarshal(line, &h) != nil || h.Boot == "" || h.Boot != bootID() || h.Size < 0 {
		return h, nil, false
	}
	for len(records) >= recordSize {
		r := records[:recordSize]
		records = records[recordSize:]
		if binary.LittleEndian.Uint64(r[16:]) != uint64(crc32.ChecksumIEEE(r[:16])) {
			break
		}
		off, end := int64(binary.LittleEndian.Uint64(r)), int64(binary.LittleEndian.Uint64(r[8:]))
		if off < 0 || end > h.Size || off >= end {
			break
		}
		landed.add(off, end)
	}
	return h, landed, true
}

// allocate has the file system set s aside, so that a full disk shows before the
// bytes are fetched. File systems that cannot are left to find out later.
func (p *partial) allocate(s span) error {
	err := unix.Fallocate(int(p.f.Fd()), unix.FALLOC_FL_KEEP_SIZE, s.off, s.len())
	switch {
	case errors.Is(err, unix.ENOSPC), errors.Is(err, unix.EDQUOT), errors.Is(err, unix.EIO), errors.Is(err, unix.EROFS):
		return fmt.Errorf("allocating %d bytes: %w", s.len(), err)
	}
	return nil
}

// close leaves both files for a later fill.
func (p *partial) close() {
	p.f.Close()
	p.closeMap()
}

func (p *partial) closeMap() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.m != nil {
		p.m.Close()
		p.m = nil
	}
}

// remove deletes both files.
func (p *partial) remove() {
	p.close()
	os.Remove(p.path + mapSuffix)
	os.Remove(p.path)
}

// blocks is what both files take, in bytes.
func (p *partial) blocks() (n int64) {
	for _, path := range []string{p.path, p.path + mapSuffix} {
		if fi, err := os.Stat(path); err == nil {
			n += blocksOf(fi)
		}
	}
	return n
}
