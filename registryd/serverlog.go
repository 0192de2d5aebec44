package registryd

import (
	"io"
	"log"
	"log/slog"
	"strings"
	"sync"
	"time"
)

// serverLogEvery is how often net/http's complaints reach the log: out of
// descriptors, it has one for each attempt to accept.
const serverLogEvery = 10 * time.Second

// serverLog is what net/http writes its complaints to. What clients do wrong is
// none of them: a TLS hello on the plain port, half a request, a client that left,
// all of that is normal traffic for a registry.
func serverLog(to *slog.Logger) *log.Logger {
	if to == nil {
		return log.New(io.Discard, "", 0)
	}
	return log.New(&serverLogWriter{to: to}, "", 0)
}

type serverLogWriter struct {
	to *slog.Logger

	mu         sync.Mutex // guards the rest
	next       time.Time  // when the next line may be written
	suppressed int        // lines since the last one that was written
}

// Write takes one message. A panic is a fault of ours and always told.
func (w *serverLogWriter) Write(p []byte) (int, error) {
	text := strings.TrimSpace(string(p))
	if strings.Contains(text, "panic serving") {
		w.to.Error("a request ended in a panic", "trace", text)
		return len(p), nil
	}
	w.mu.Lock()
	now := time.Now()
	speak, suppressed := !now.Before(w.next), w.suppressed
	if speak {
		w.next, w.suppressed = now.Add(serverLogEvery), 0
	} else {
		w.suppressed++
	}
	w.mu.Unlock()
	if speak {
		w.to.Warn("http server", "problem", bounded(text), "suppressed", suppressed)
	}
	return len(p), nil
}
