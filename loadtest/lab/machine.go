package lab

import (
	"os"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"hostlocal/loadtest"
)

// thisMachine says what the experiment runs on. What cannot be found out is empty.
func thisMachine() loadtest.Machine {
	m := loadtest.Machine{
		OS: runtime.GOOS, CPU: firstField("/proc/cpuinfo", "model name"), Cores: runtime.GOMAXPROCS(0), Go: runtime.Version(),
	}
	m.Host, _ = os.Hostname()
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		m.OS = unix.ByteSliceToString(u.Sysname[:]) + " " + unix.ByteSliceToString(u.Release[:])
	}
	if kib, ok := strings.CutSuffix(firstField("/proc/meminfo", "MemTotal"), " kB"); ok {
		n, _ := strconv.ParseInt(kib, 10, 64)
		m.Memory = n << 10
	}
	return m
}

// firstField returns the value of the first line of a file that begins with key.
func firstField(file, key string) string {
	text, _ := os.ReadFile(file)
	for line := range strings.Lines(string(text)) {
		if k, v, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(k) == key {
			return strings.TrimSpace(v)
		}
	}
	return ""
}
