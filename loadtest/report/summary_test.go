package report

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"hostlocal/loadtest"
)

var sgr = regexp.MustCompile("\x1b\\[[0-9]+m")

// wantPlainLines: no line is wider than the terminal, colours change nothing but
// colours, and nothing moves the cursor.
func wantPlainLines(t *testing.T, r loadtest.Report, width int) string {
	t.Helper()
	var plain, coloured strings.Builder
	if err := Summary(&plain, r, width, false); err != nil {
		t.Fatal(err)
	}
	if err := Summary(&coloured, r, width, true); err != nil {
		t.Fatal(err)
	}
	if sgr.ReplaceAllString(coloured.String(), "") != plain.String() {
		t.Fatal("colours change the text")
	}
	for line := range strings.Lines(plain.String()) {
		line = strings.TrimSuffix(line, "\n")
		if n := utf8.RuneCountInString(line); n > width {
			t.Fatalf("a line of %d in %d columns: %q", n, width, line)
		}
		if i := strings.IndexFunc(line, func(r rune) bool { return unicode.IsControl(r) || r == '\u202e' }); i >= 0 {
			t.Fatalf("a line has a control character: %q", line)
		}
	}
	return plain.String()
}

func TestSummariesFitTheTerminal(t *testing.T) {
	for name, r := range samples() {
		for _, width := range []int{20, 40, 72, 80, 100, 132, 250} {
			text := wantPlainLines(t, r, width)
			if !strings.Contains(strings.Join(strings.Fields(text), " "), strings.TrimSuffix(strings.Join(strings.Fields(headline(r)[0]), " "), ".")) {
				t.Errorf("%s at %d columns lacks its headline", name, width)
			}
		}
	}
}

// TestTheSummaryComparesAllContenders at a width where two stand beside each other
// and the others below.
func TestTheSummaryComparesAllContenders(t *testing.T) {
	r := samples()["comparison"]
	text := wantPlainLines(t, r, 60)
	for _, c := range r.Contenders {
		wall := strings.ReplaceAll(format(overRounds(c, mustColumn("wall")).median, seconds).String(), "\u00a0", " ")
		if !strings.Contains(text, c.Name) || strings.Count(text, wall) < 2 { // the headline and the table
			t.Errorf("%s and its %s are not in\n%s", c.Name, wall, text)
		}
	}
	if n := strings.Count(text, "last client done"); n != 2 {
		t.Errorf("the table has %d blocks", n)
	}
}

func progress(done int, elapsed time.Duration) loadtest.Progress {
	return loadtest.Progress{Done: done, Due: done + 20, Total: 100, Running: 20, Failed: 2, P50: 1200 * time.Millisecond, P99: 3 * time.Second, BytesPerSecond: 512 << 20, Elapsed: elapsed, ETA: 7 * time.Second}
}

func TestALogGetsALineEveryFiveSeconds(t *testing.T) {
	var b strings.Builder
	live := NewLive(&b, false, 0, true)
	for i := range 121 {
		live.Show("registryd, round 1 of 5", progress(i/2, time.Duration(i)*100*time.Millisecond))
	}
	live.Close()
	want := "registryd, round 1 of 5: 25 of 100 done, 20 running, 2 errors, p50 1.20 s, p99 3.00 s, 512 MiB/s, 5.00 s so far, 7.00 s to go\n"
	if lines := strings.SplitAfter(b.String(), "\n"); len(lines) != 4 || lines[1] != want {
		t.Errorf("written was\n%s", b.String())
	}
	live.Show("nginx, round 1 of 5", progress(0, 0))
	if !strings.HasSuffix(b.String(), "7.00 s to go\n") || !strings.Contains(b.String(), "nginx") {
		t.Error("the next run does not begin with a line")
	}
}

// TestTheBlockIsRedrawnInPlace plays the sequences on a screen of its own.
func TestTheBlockIsRedrawnInPlace(t *testing.T) {
	for _, width := range []int{20, 40, 80, 200} {
		var b strings.Builder
		live := NewLive(&b, true, width, true)
		for i := range 50 {
			live.Show("registryd", progress(2*i, time.Duration(i)*time.Second))
		}
		if rows := play(t, b.String(), width); len(rows) != 2 || !strings.HasPrefix(rows[0], "registryd") || !strings.HasPrefix(rows[1], "98 of 100 done") {
			t.Errorf("at %d columns the screen shows %q", width, rows)
		}
		live.Close()
		if rows := play(t, b.String(), width); len(rows) != 0 {
			t.Errorf("at %d columns the screen still shows %q", width, rows)
		}
	}
}

// play is a terminal that knows what Live writes.
func play(t *testing.T, text string, width int) []string {
	t.Helper()
	var rows []string
	at := 0
	text = sgr.ReplaceAllString(text, "")
	for text != "" {
		var up int
		if n, _ := fmt.Sscanf(text, "\x1b[%dA\r\x1b[J", &up); n == 1 {
			at -= up
			if at < 0 {
				t.Fatal("the cursor leaves the block")
			}
			rows = rows[:at]
			text = text[strings.Index(text, "\x1b[J")+3:]
			continue
		}
		line, rest, _ := strings.Cut(text, "\n")
		if strings.Contains(line, "\x1b") || utf8.RuneCountInString(line) >= width {
			t.Fatalf("in %d columns: %q", width, line)
		}
		rows = append(rows[:at], line)
		at++
		text = rest
	}
	return rows
}
