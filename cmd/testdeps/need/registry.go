package need

import (
	"bufio"
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"
	"time"
)

var listening = regexp.MustCompile(`msg="listening on ([0-9.:]+)"`)

// Registry starts a stock registry, which ends with the test, and returns its URL. Its
// configuration has the address 127.0.0.1:0 and the log level info: it chooses its port
// and says which, as one that was free a moment before may be somebody else's.
func Registry(t testing.TB, config string) (url string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "config.yml")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(Binary(t, "registry"), "serve", file)
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer // the goroutine's until over is closed
	at, over := make(chan string, 1), make(chan struct{})
	go func() {
		defer close(over)
		for lines := bufio.NewScanner(stderr); lines.Scan(); {
			log.WriteString(lines.Text() + "\n")
			if m := listening.FindSubmatch(lines.Bytes()); m != nil {
				at <- string(m[1]) // once
			}
		}
	}()
	t.Cleanup(func() {
		cmd.Process.Kill()
		<-over
		cmd.Wait()
		if t.Failed() {
			t.Logf("the registry said:\n%s", &log)
		}
	})
	select {
	case addr := <-at:
		return "http://" + addr
	case <-over:
		t.Fatal("the registry has ended")
	case <-time.After(time.Minute):
		t.Fatal("the registry does not say where it listens")
	}
	return ""
}
