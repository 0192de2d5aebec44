package loadtest

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// ErrScenario is wrapped by every error that says what is wrong with a scenario.
var ErrScenario = errors.New("not a scenario")

// problems collects all that is wrong with a scenario, so that one look tells a
// person everything there is to correct.
type problems struct {
	source string
	lines  map[string]int  // where each key stands, by its path: "images.layers[2]"
	bad    map[string]bool // keys that have a problem already; the first says it
	list   []problem
}

type problem struct {
	line int // 0 if unknown
	text string
}

// at notes a problem of a line.
func (p *problems) at(line int, format string, args ...any) {
	p.list = append(p.list, problem{line, fmt.Sprintf(format, args...)})
}

// add notes a problem of a key, or of the whole where key is "".
func (p *problems) add(key, format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if key == "" {
		p.at(0, "%s", text)
		return
	}
	if p.bad[key] {
		return
	}
	if p.bad == nil {
		p.bad = map[string]bool{}
	}
	p.bad[key] = true
	where := key // a key that is not written is missing in the one around it
	for p.lines[where] == 0 && strings.Contains(where, ".") {
		where = where[:strings.LastIndex(where, ".")]
	}
	p.at(p.lines[where], "%s: %s", key, text)
}

// err returns all of them as one error, or nil.
func (p *problems) err() error {
	if len(p.list) == 0 {
		return nil
	}
	slices.SortStableFunc(p.list, func(a, b problem) int { return cmp.Compare(a.line, b.line) })
	return p
}

// Error implements error.
func (p *problems) Error() string {
	n := "1 problem"
	if len(p.list) > 1 {
		n = fmt.Sprintf("%d problems", len(p.list))
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s has %s:", p.source, n)
	for _, one := range p.list {
		b.WriteString("\n  ")
		if one.line > 0 {
			fmt.Fprintf(&b, "line %d: ", one.line)
		}
		b.WriteString(one.text)
	}
	return b.String()
}

// Unwrap implements the interface of errors.Is.
func (p *problems) Unwrap() error { return ErrScenario }
