package blobcache

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
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

// readTrace makes the model of what `strace -f -xx` saw of a run in the folder root.
func readTrace(t *testing.T, trace, root string) *crashDisk {
	d := &crashDisk{}
	d.root = d.newInode(true)
	r := &traceReader{TB: t, d: d, root: root, fds: map[string]*inode{}, at: map[string]int64{}, begun: map[string]begun{}}
	for line := range strings.Lines(trace) {
		r.line(strings.TrimSuffix(line, "\n"))
	}
	return d
}

type traceReader struct {
	testing.TB
	d     *crashDisk
	root  string
	fds   map[string]*inode
	at    map[string]int64 // where each descriptor stands
	begun map[string]begun // calls that have not returned, by thread
}

type begun struct {
	text  string
	after int // so many calls had returned when it began
}

func (r *traceReader) line(line string) {
	pid, text, _ := strings.Cut(line, " ")
	text = strings.TrimSpace(text)
	after := len(r.d.calls)
	if head, ok := strings.CutSuffix(text, " <unfinished ...>"); ok {
		r.begun[pid] = begun{head, after}
		return
	}
	if strings.HasPrefix(text, "<... ") {
		b := r.begun[pid]
		_, tail, _ := strings.Cut(text, "resumed>")
		text, after = b.text+tail, b.after
	}
	name, rest, ok := strings.Cut(text, "(")
	args, result, returned := cutLast(rest, " = ")
	if !ok || !returned || strings.HasPrefix(result, "-1") || strings.HasPrefix(result, "?") {
		return
	}
	args = strings.TrimSuffix(strings.TrimSpace(args), ")")
	result, _, _ = strings.Cut(result, " ")
	r.call(name, splitArgs(args), result, after)
}

func cutLast(s, sep string) (before, after string, ok bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}

// splitArgs splits at commas outside of quotes and brackets.
func splitArgs(s string) (args []string) {
	depth, quoted, from := 0, false, 0
	for i := range len(s) {
		switch c := s[i]; {
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '[' || c == '{':
			depth++
		case c == ']' || c == '}':
			depth--
		case c == ',' && depth == 0:
			args, from = append(args, strings.TrimSpace(s[from:i])), i+1
		}
	}
	return append(args, strings.TrimSpace(s[from:]))
}

// quoted decodes "\x41\x42", and says whether that is all of it.
func quoted(arg string) (b []byte, whole bool) {
	_, whole = strings.CutSuffix(arg, `"`)
	for hex := range strings.SplitSeq(strings.Trim(strings.TrimSuffix(arg, "..."), `"`), `\x`) {
		if n, err := strconv.ParseUint(hex, 16, 8); err == nil {
			b = append(b, byte(n))
		}
	}
	return b, whole
}

// find returns the folder and the name of a path; nil outside of the root.
func (r *traceReader) find(arg string) (in *inode, name string) {
	b, _ := quoted(arg)
	path, ok := strings.CutPrefix(string(b), r.root+"/")
	if !ok {
		return nil, ""
	}
	in = r.d.root
	parts := strings.Split(path, "/")
	for _, p := range parts[:len(parts)-1] {
		if in = in.names[p]; in == nil {
			return nil, ""
		}
	}
	return in, parts[len(parts)-1]
}

func number(s string) int64 {
	n, _ := strconv.ParseInt(s, 0, 64)
	return n
}

func (r *traceReader) call(name string, args []string, result string, after int) {
	d := r.d
	file := r.fds[args[0]]
	switch name {
	case "openat":
		delete(r.fds, result)
		if b, _ := quoted(args[1]); string(b) == r.root {
			r.fds[result] = d.root
			return
		}
		in, base := r.find(args[1])
		if in == nil {
			return
		}
		i := in.names[base]
		if i == nil {
			i = d.newInode(false)
			d.link(in, base, i)
		}
		r.fds[result], r.at[result] = i, 0
		if strings.Contains(args[2], "O_APPEND") {
			r.at[result] = i.size
		}
		if strings.Contains(args[2], "O_TRUNC") {
			i.size = 0
			d.add(call{kind: cut, target: i})
		}
	case "close":
		delete(r.fds, args[0])
	case "mkdirat":
		if in, base := r.find(args[1]); in != nil {
			d.link(in, base, d.newInode(true))
		}
	case "unlinkat":
		if in, base := r.find(args[1]); in != nil {
			d.link(in, base, nil)
		}
	case "renameat":
		from, base := r.find(args[1])
		to, next := r.find(args[3])
		if from != nil && to != nil {
			i := from.names[base]
			delete(from.names, base)
			to.names[next] = i
			d.add(call{kind: linked, in: to, name: next, from: from, old: base, target: i})
		}
	case "utimes", "utimensat", "futimesat":
		r.timed(args)
	case "write", "pwrite64", "ftruncate", "fchmod", "fsync":
		if file != nil {
			r.fileCall(name, file, args, number(result), after)
		}
	}
}

func (r *traceReader) fileCall(name string, file *inode, args []string, result int64, after int) {
	d := r.d
	switch name {
	case "write", "pwrite64":
		off := r.at[args[0]]
		if name == "pwrite64" {
			off = number(args[3])
		} else {
			r.at[args[0]] += result
		}
		b, whole := quoted(args[1])
		if !whole {
			b = nil
		}
		file.size = max(file.size, off+result)
		d.add(call{kind: written, target: file, off: off, n: result, bytes: b})
		d.add(call{kind: timed, target: file, n: -1})
	case "ftruncate":
		file.size = number(args[1])
		d.add(call{kind: cut, target: file, n: file.size})
		d.add(call{kind: timed, target: file, n: -1})
	case "fchmod":
		d.add(call{kind: moded, target: file, n: number(args[1])})
	case "fsync":
		d.add(call{kind: synced, target: file, n: int64(after)})
	}
}

// timed is what seal does, by way of /proc/self/fd.
func (r *traceReader) timed(args []string) {
	for i, a := range args[:min(2, len(args))] {
		b, _ := quoted(a)
		if fd, ok := strings.CutPrefix(string(b), "/proc/self/fd/"); ok && r.fds[fd] != nil {
			_, sec, _ := strings.Cut(args[i+1], "tv_sec=")
			sec, _, _ = strings.Cut(sec, ",")
			sec, _, _ = strings.Cut(sec, " ")
			r.d.add(call{kind: timed, target: r.fds[fd], n: number(sec)})
		}
	}
}
