package blobcache

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// crashDisk is a model of what a file system promises, and of no more: what was synced
// is there after a power loss. It is made of the system calls of a run, in the order in
// which they returned.
type crashDisk struct {
	root   *inode
	calls  []call
	inodes []*inode
}

// An inode is a file or a folder of the model.
type inode struct {
	folder bool
	size   int64             // while the calls are read
	names  map[string]*inode // of a folder, while the calls are read
}

type callKind int

const (
	linked  callKind = iota // in has target under name from here on, or nobody; and from has not, if there is one
	written                 // target has bytes from off on, or n of its blob's if they are nil
	cut                     // target has n bytes
	moded                   // target's mode is n
	timed                   // target's mtime is n, in seconds; -1 for a time that is no whole second
	synced                  // target is durable, as the first n calls left it
)

type call struct {
	kind   callKind
	in     *inode
	name   string
	from   *inode // a rename's
	old    string // the name there
	target *inode
	off, n int64
	bytes  []byte
}

func (d *crashDisk) add(c call) { d.calls = append(d.calls, c) }

func (d *crashDisk) newInode(folder bool) *inode {
	i := &inode{folder: folder}
	if folder {
		i.names = map[string]*inode{}
	}
	d.inodes = append(d.inodes, i)
	return i
}

// link has name in the folder mean target, now and in the record.
func (d *crashDisk) link(in *inode, name string, target *inode) {
	if in.names[name] = target; target == nil {
		delete(in.names, name)
	}
	d.add(call{kind: linked, in: in, name: name, target: target})
}

// durable returns, of each inode, how many of the first n calls are sure to have
// reached the disk.
func (d *crashDisk) durable(n int) map[*inode]int {
	sure := map[*inode]int{}
	for _, c := range d.calls[:n] {
		if c.kind == synced {
			sure[c.target] = max(sure[c.target], int(c.n))
		}
	}
	return sure
}

// crash lays out in dir what may be found after a power loss behind the first n calls.
// Of each folder by itself some more names than the sure ones have come, or, if journal,
// names and lengths are those of one moment before the loss, as where a journal keeps
// the order. Bytes, modes and times that are not sure have come or not, each for itself;
// where a length has and the bytes have not there are zeros. contents are the blobs'
// bytes by inode.
func (d *crashDisk) crash(t *testing.T, dir string, n int, journal bool, rnd *rand.Rand, contents map[*inode][]byte) {
	sure := d.durable(n)
	all := 0
	for _, s := range sure {
		all = max(all, s)
	}
	common := all + rnd.IntN(n-all+1)
	if journal {
		n = common
	}
	var lay func(i *inode, path string)
	lay = func(i *inode, path string) {
		if !i.folder {
			d.layFile(t, i, path, n, sure[i], rnd, contents[i])
			return
		}
		if err := os.MkdirAll(path, 0o755); err != nil {
			t.Fatal(err)
		}
		until := n
		if !journal {
			until = sure[i] + rnd.IntN(n-sure[i]+1)
		}
		names := map[string]*inode{}
		for _, c := range d.calls[:until] {
			if c.kind == linked && c.from == i {
				delete(names, c.old)
			}
			if c.kind == linked && c.in == i {
				names[c.name] = c.target
			}
		}
		for name, target := range names {
			if target != nil {
				lay(target, filepath.Join(path, name))
			}
		}
	}
	lay(d.root, dir)
}

func (d *crashDisk) layFile(t *testing.T, i *inode, path string, n, sure int, rnd *rand.Rand, blob []byte) {
	var b []byte
	mode, mtime := os.FileMode(0o644), int64(-1)
	grow := func(size int64) {
		for int64(len(b)) < size {
			b = append(b, make([]byte, size-int64(len(b)))...)
		}
	}
	habit := rnd.IntN(4) // of the file system with what is not sure: none, all, lengths only, as it comes
	for at, c := range d.calls[:n] {
		if c.target != i || c.kind == linked {
			continue
		}
		came := at < sure || habit == 1 || habit == 3 && rnd.IntN(2) == 0
		switch {
		case c.kind == written && (came || habit >= 2):
			bytes := c.bytes
			if bytes == nil {
				bytes = blob[c.off : c.off+c.n]
			}
			grow(c.off + c.n)
			if came {
				copy(b[c.off:], bytes)
			}
		case c.kind == cut && came:
			grow(c.n)
			b = b[:c.n]
		case c.kind == moded && (came || rnd.IntN(2) == 0):
			mode = os.FileMode(c.n)
		case c.kind == timed && (came || rnd.IntN(2) == 0):
			mtime = c.n
		}
	}
	if err := os.WriteFile(path, b, 0o644); err != nil {
		t.Fatal(err)
	}
	when := time.Unix(1_700_000_000, 123456789)
	if mtime >= 0 {
		when = time.Unix(mtime, 0)
	}
	if err := os.Chtimes(path, when, when); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
}
