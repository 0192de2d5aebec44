package registryd

import (
	"log/slog"
	"net/http"
	"os"
	"time"
)

// maxLogged bounds what a client can put into one attribute of a line, in bytes.
const maxLogged = 256

// logAccess writes the line of a request: what was asked, what was answered, from
// where and how long it took. Nothing of the headers but the user agent is logged
// (Authorization is often there: docker sends the user's hub password where it was
// once challenged); what a client chose is bounded, and both of slog's handlers
// quote it.
func (h *Handler) logAccess(w *response, r *http.Request, t target) {
	ctx := r.Context()
	if h.access == nil || !h.access.Enabled(ctx, slog.LevelDebug) {
		return
	}
	attrs := make([]slog.Attr, 0, 12)
	attrs = append(attrs,
		slog.String("client", r.RemoteAddr),
		slog.String("method", bounded(r.Method)),
		slog.String("path", bounded(r.URL.Path)))
	if ns, err := namespace(r.URL.RawQuery); err == nil && ns != "" {
		attrs = append(attrs, slog.String("ns", ns))
	}
	if rng := r.Header.Get("Range"); rng != "" {
		attrs = append(attrs, slog.String("range", bounded(rng)))
	}
	attrs = append(attrs, slog.Int("status", w.status))
	if !w.digest.IsZero() {
		attrs = append(attrs, slog.String("digest", w.digest.String()))
	}
	if w.source != "" {
		attrs = append(attrs, slog.String("source", w.source))
	}
	attrs = append(attrs,
		slog.Int64("bytes", w.sent),
		slog.Duration("duration", time.Since(w.start)),
		slog.String("agent", bounded(r.UserAgent())))
	if w.err != nil {
		attrs = append(attrs, slog.String("error", plain(w.err)))
	}
	h.access.LogAttrs(ctx, slog.LevelDebug, "request", attrs...)
}

// bounded cuts s to maxLogged bytes.
func bounded(s string) string { return s[:min(len(s), maxLogged)] }

// OpenAccessLog returns a logger for HandlerOptions.Access that appends a JSON
// line for each request to the file, and a function that closes it.
func OpenAccessLog(path string) (*slog.Logger, func() error, error) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o640)
	if err != nil {
		return nil, nil, err
	}
	return slog.New(slog.NewJSONHandler(f, &slog.HandlerOptions{Level: slog.LevelDebug})), f.Close, nil
}
