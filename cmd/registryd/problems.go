package main

import (
	"fmt"
	"strings"
)

// problems collects all that is wrong with a configuration, so that one start
// tells a person everything there is to correct.
type problems struct {
	source string // the file's name, "" without a file
	list   []string
}

// add notes a problem. where is "line 7", a variable's name, or "" for a default.
func (p *problems) add(where, format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if where != "" {
		text = where + ": " + text
	}
	p.list = append(p.list, text)
}

// err returns all of them as one error, or nil if there are none.
func (p *problems) err() error {
	if len(p.list) == 0 {
		return nil
	}
	return p
}

// Error implements error.
func (p *problems) Error() string {
	of := "the configuration"
	if p.source != "" {
		of = p.source
	}
	n := "1 problem"
	if len(p.list) > 1 {
		n = fmt.Sprintf("%d problems", len(p.list))
	}
	return fmt.Sprintf("%s has %s:\n  %s", of, n, strings.Join(p.list, "\n  "))
}
