package s3store_test

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// holdLocks takes all locks, as a daemon does that was stopped at the wrong time.
func holdLocks(t *testing.T, dir string) (release func()) {
	t.Helper()
	var files []*os.File
	for i := range 64 {
		file, err := os.OpenFile(filepath.Join(dir, fmt.Sprintf("lock-%02d", i)), os.O_CREATE|os.O_RDWR, 0o666)
		if err != nil {
			t.Fatal(err)
		}
		if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX); err != nil {
			t.Fatal(err)
		}
		files = append(files, file)
	}
	return func() {
		for _, file := range files {
			file.Close()
		}
	}
}
