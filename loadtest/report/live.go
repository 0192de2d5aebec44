package report

import (
	"fmt"
	"io"
	"strings"
	"time"

	"hostlocal/loadtest"
)

// lineEvery is how often Live writes where it cannot redraw: often enough for a
// person who watches a CI log, and 120 lines in ten minutes.
const lineEvery = 5 * time.Second

// Live shows how a run goes while it runs: on a terminal one block that is redrawn,
// elsewhere a line every five seconds. It is not for use by several goroutines at
// once.
type Live struct {
	w        io.Writer
	terminal bool
	width    int
	colour   bool
	drawn    int           // lines of the block on the screen
	next     time.Duration // of the run's time, when the next line is due
}

// NewLive writes to w, a terminal of so many columns (0 means 80) or something
// else.
func NewLive(w io.Writer, terminal bool, width int, colour bool) *Live {
	if width <= 0 {
		width = 80
	}
	return &Live{w: w, terminal: terminal, width: max(width, 20), colour: colour && terminal}
}

// Show draws the state under a title: which contender, which round. Errors of the
// writer are not reported: a run does not end because nobody watches.
func (l *Live) Show(title string, p loadtest.Progress) {
	if !l.terminal {
		if p.Elapsed >= l.next {
			l.next = p.Elapsed + lineEvery
			s := &screen{width: 1000}
			s.line(part{plainStyle, title + ": " + strings.Join(numbersOf(p), ", ")})
			fmt.Fprint(l.w, s.b.String())
		}
		return
	}
	// One column stays free: a terminal that wraps at its last one would break the block.
	s := &screen{width: l.width - 1, colour: l.colour}
	s.line(part{bold, title + " "}, part{plainStyle, bar(p, l.width-2-len([]rune(title)))})
	style := plainStyle
	if p.Failed > 0 {
		style = yellow
	}
	s.line(part{style, strings.Join(numbersOf(p), "  ")})
	text := l.clear() + s.b.String()
	l.drawn = 2
	fmt.Fprint(l.w, text)
}

// Close takes the block away, so that what comes next stands where it was. The next
// Show begins anew.
func (l *Live) Close() {
	if l.terminal && l.drawn > 0 {
		fmt.Fprint(l.w, l.clear())
	}
	l.drawn, l.next = 0, 0
}

// clear goes to the first line of the block and clears the screen from there.
func (l *Live) clear() string {
	if l.drawn == 0 {
		return ""
	}
	return fmt.Sprintf("\x1b[%dA\r\x1b[J", l.drawn)
}

// numbersOf are the parts of the progress line, the most important first, because a
// narrow terminal cuts the end.
func numbersOf(p loadtest.Progress) []string {
	out := []string{
		fmt.Sprintf("%s of %s done", inCount(p.Done), inCount(p.Total)),
		fmt.Sprintf("%s running", inCount(p.Running)),
	}
	if p.Failed > 0 {
		out = append(out, plural(p.Failed, "error", "errors"))
	}
	if p.P50 > 0 {
		out = append(out, "p50 "+inSeconds(p.P50), "p99 "+inSeconds(p.P99))
	}
	out = append(out, format(p.BytesPerSecond, rate).String(), inSeconds(p.Elapsed.Round(100*time.Millisecond))+" so far")
	if p.ETA > 0 {
		out = append(out, inSeconds(p.ETA.Round(time.Second))+" to go")
	}
	return out
}

// bar is done, due but waiting, and not due yet.
func bar(p loadtest.Progress, width int) string {
	width = min(width, 60)
	if width < 8 || p.Total <= 0 {
		return ""
	}
	cells := func(n int) int { return max(0, min(n, p.Total)) * width / p.Total }
	done, due := cells(p.Done), cells(max(p.Due, p.Done))
	return strings.Repeat("█", done) + strings.Repeat("▒", due-done) + strings.Repeat("·", width-due)
}
