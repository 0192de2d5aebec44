package report

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// maxAssertion bounds what a scenario file or a command line may ask to parse, and
// with it the depth of the parser.
const maxAssertion = 500

// A lexer cuts an assertion into its words. Positions are bytes from the start.
type lexer struct {
	text string
	at   int
}

// comparisons are tried longest first.
var comparisons = []string{"<=", ">=", "==", "!=", "<", ">"}

func (l *lexer) space() {
	for l.at < len(l.text) && (l.text[l.at] == ' ' || l.text[l.at] == '\t') {
		l.at++
	}
}

// take consumes the word if it is next.
func (l *lexer) take(word string) bool {
	l.space()
	if !strings.HasPrefix(l.text[l.at:], word) {
		return false
	}
	l.at += len(word)
	return true
}

func (l *lexer) done() bool {
	l.space()
	return l.at == len(l.text)
}

func (l *lexer) comparison() (string, bool) {
	for _, c := range comparisons {
		if l.take(c) {
			return c, true
		}
	}
	return "", false
}

// name is a column's: letters, digits, an underscore, and a point or a dash within
// (sources.disk).
func (l *lexer) name() string {
	l.space()
	start := l.at
	for l.at < len(l.text) {
		c := l.text[l.at]
		inside := l.at > start && (c >= '0' && c <= '9' || c == '.')
		if !isLetter(c) && !inside {
			break
		}
		l.at++
	}
	return l.text[start:l.at]
}

// argument is what stands between brackets or commas, whatever a contender is
// called.
func (l *lexer) argument() string {
	l.space()
	start := l.at
	for l.at < len(l.text) && l.text[l.at] != ',' && l.text[l.at] != ')' {
		l.at++
	}
	return strings.TrimSpace(l.text[start:l.at])
}

// factors are the units that a number may carry.
var factors = map[string]struct {
	by float64
	dimension
}{
	"": {1, plain}, "%": {0.01, plain},
	"ns": {1e-9, time1}, "us": {1e-6, time1}, "µs": {1e-6, time1}, "ms": {1e-3, time1}, "s": {1, time1}, "min": {60, time1}, "m": {60, time1}, "h": {3600, time1},
	"B": {1, byte1}, "kB": {1e3, byte1}, "MB": {1e6, byte1}, "GB": {1e9, byte1}, "TB": {1e12, byte1},
	"KiB": {1 << 10, byte1}, "MiB": {1 << 20, byte1}, "GiB": {1 << 30, byte1}, "TiB": {1 << 40, byte1},
}

// number reads 1.3, 3s, 128MiB, 50%. It is not one if ok is false and err is nil.
func (l *lexer) number() (v float64, d dimension, ok bool, err error) {
	l.space()
	start := l.at
	for l.at < len(l.text) && (l.text[l.at] >= '0' && l.text[l.at] <= '9' || l.text[l.at] == '.') {
		l.at++
	}
	digits := l.text[start:l.at]
	if digits == "" {
		return 0, plain, false, nil
	}
	v, err = strconv.ParseFloat(digits, 64)
	if err != nil || math.IsInf(v, 0) {
		return 0, plain, false, fmt.Errorf("%q is not a number", digits)
	}
	unit := l.at
	for l.at < len(l.text) && (isLetter(l.text[l.at]) || l.text[l.at] == '%' || l.text[l.at] >= 0x80) {
		l.at++
	}
	f, known := factors[l.text[unit:l.at]]
	if !known {
		return 0, plain, false, fmt.Errorf("%q is not a unit: possible are ns, us, ms, s, min, h, B, KiB, MiB, GiB, TiB, kB, MB, GB, TB and %%", l.text[unit:l.at])
	}
	return v * f.by, f.dimension, true, nil
}

func isLetter(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_'
}
