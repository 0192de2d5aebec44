package main

import (
	"encoding/json"
	"fmt"
	"io"
	"text/tabwriter"
	"time"
)

// A report is what a command prints: for people, or as JSON for programs.
type report struct {
	w    io.Writer
	json bool
}

// print writes v as JSON if that was asked for, else what human writes.
func (r report) print(v any, human func(w io.Writer)) error {
	if r.json {
		e := json.NewEncoder(r.w)
		e.SetIndent("", "  ")
		return e.Encode(v)
	}
	t := tabwriter.NewWriter(r.w, 0, 0, 2, ' ', 0)
	human(t)
	return t.Flush()
}

// ago says how long something is past.
func ago(t time.Time) string {
	return time.Since(t).Round(time.Second).String() + " ago"
}

// trouble says how a source is: "ok", or what is wrong and since when.
func trouble(what string, since time.Time) string {
	switch {
	case what == "":
		return "ok"
	case since.IsZero():
		return what
	}
	return fmt.Sprintf("%s (since %s)", what, ago(since))
}
