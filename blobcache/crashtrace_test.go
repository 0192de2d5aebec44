package blobcache

import (
	"strconv"
	"strings"
	"testing"
)

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
		if fd, ok := strings.CutPrefix(head, "close("); ok {
			// Another thread may be given the number before this call is seen to return.
			delete(r.fds, strings.TrimSuffix(fd, ")"))
			r.begun[pid] = begun{}
		}
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
