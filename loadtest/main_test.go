package loadtest

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"
)

// TestMain demands that no goroutine is left behind. Those that are ending have half a
// minute.
func TestMain(m *testing.M) {
	code := m.Run()
	left := ""
	for deadline := time.Now().Add(30 * time.Second); code == 0; runtime.Gosched() {
		buf := make([]byte, 1<<20)
		stacks := strings.Split(string(buf[:runtime.Stack(buf, true)]), "\n\n")
		left = ""
		for _, s := range stacks[1:] {
			if strings.Contains(s, "hostlocal/") || strings.Contains(s, "net/http.") {
				left += s + "\n\n"
			}
		}
		if left == "" || time.Now().After(deadline) {
			break
		}
	}
	if left != "" {
		fmt.Fprintf(os.Stderr, "goroutines left behind:\n%s", left)
		code = 1
	}
	os.Exit(code)
}
