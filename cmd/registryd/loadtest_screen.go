package main

import (
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"hostlocal/loadtest/lab"
	loadreport "hostlocal/loadtest/report"
)

// A screen shows how an experiment stands: on a terminal by a block that is drawn
// anew, else by a line when something begins and every few seconds of load.
type screen struct {
	w        io.Writer
	terminal bool
	live     *loadreport.Live
	last     string
}

func newScreen(w io.Writer) *screen {
	width, colour := terminal(w)
	return &screen{w: w, terminal: width > 0, live: loadreport.NewLive(w, width > 0, width, colour)}
}

// show is called by one goroutine at a time.
func (s *screen) show(m lab.Moment) {
	round := fmt.Sprintf("round %d", m.Round)
	if m.Round == 0 {
		round = "a round that does not count"
	}
	title := fmt.Sprintf("[%d/%d] %s, %s, %s", m.Turn, m.Turns, m.Contender, round, m.Doing)
	if title != s.last {
		s.live.Close()
		s.last = title
	}
	switch {
	case m.Load.Total > 0 || s.terminal:
		s.live.Show(title, m.Load)
	default:
		fmt.Fprintln(s.w, title)
	}
}

// done leaves the screen to what comes after it.
func (s *screen) done() { s.live.Close() }

// terminal returns how many columns w has, 0 if it is no terminal, and whether it
// likes colours (https://no-color.org).
func terminal(w io.Writer) (width int, colour bool) {
	f, ok := w.(*os.File)
	if !ok {
		return 0, false
	}
	size, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ)
	if err != nil || size.Col == 0 {
		return 0, false
	}
	return int(size.Col), os.Getenv("NO_COLOR") == ""
}
