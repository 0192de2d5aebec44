package main

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/docker/go-units"

	"hostlocal/registryd/archive"
)

const (
	// redrawEvery is how often the bar moves: smooth enough, and 5 lines a second.
	redrawEvery = 200 * time.Millisecond
	// sayEvery is how often a line is written where nothing can be redrawn.
	sayEvery = 5 * time.Second
	// barWidth is the most columns of the bar alone.
	barWidth = 30
)

// An importScreen shows how an import stands: a bar on a terminal, else a line from
// time to time.
type importScreen struct {
	w     io.Writer
	width int // columns; 0: no terminal
}

func newImportScreen(w io.Writer) *importScreen {
	width, _ := terminal(w)
	return &importScreen{w, width}
}

// say writes a line.
func (s *importScreen) say(text string) { fmt.Fprintln(s.w, text) }

// follow shows p until stop is called, which leaves the screen to what comes after.
func (s *importScreen) follow(p *archive.Progress) (stop func()) {
	every := sayEvery
	if s.width > 0 {
		every = redrawEvery
	}
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			select {
			case <-done:
				if s.width > 0 {
					fmt.Fprint(s.w, "\r\x1b[K")
				}
				return
			case now := <-tick.C:
				s.show(p.Standing(), now)
			}
		}
	})
	return func() { close(done); wg.Wait() }
}

func (s *importScreen) show(at archive.Standing, now time.Time) {
	if at.Number == 0 {
		return
	}
	numbers := importNumbers(at, now)
	title := fmt.Sprintf("[%d/%d] %s", at.Number, at.Images, at.Image)
	if s.width == 0 {
		s.say(title + ": " + numbers)
		return
	}
	// One column stays free: a terminal that wraps at its last one would not redraw.
	line := importBar(at, min(barWidth, s.width/4)) + " " + numbers + "  " + title
	if r := []rune(line); len(r) > s.width-1 {
		line = string(r[:s.width-1])
	}
	fmt.Fprint(s.w, "\r"+line+"\x1b[K")
}

// importNumbers are what there is to say, the most important first: a narrow terminal
// cuts the end.
func importNumbers(at archive.Standing, now time.Time) string {
	if at.Checked < at.Check {
		return fmt.Sprintf("checking, %s of %s", units.BytesSize(float64(at.Checked)), units.BytesSize(float64(at.Check)))
	}
	text := fmt.Sprintf("%s of %s", units.BytesSize(float64(at.Done)), units.BytesSize(float64(at.Total)))
	taken := now.Sub(at.Began).Seconds()
	if at.Began.IsZero() || at.Sent == 0 || taken < 0.5 { // too early to tell
		return text
	}
	rate := float64(at.Sent) / taken
	text += fmt.Sprintf(", %.1f MiB/s", rate/(1<<20))
	if left := float64(at.Total - at.Done); left > 0 {
		text += fmt.Sprintf(", %s to go", (time.Duration(left/rate) * time.Second).String())
	}
	return text
}

func importBar(at archive.Standing, width int) string {
	if at.Total <= 0 || width < 4 {
		return ""
	}
	full := int(min(max(at.Done, 0), at.Total) * int64(width) / at.Total)
	return strings.Repeat("█", full) + strings.Repeat("·", width-full)
}
