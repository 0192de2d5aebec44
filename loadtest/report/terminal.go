package report

import (
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// A screen collects lines that fit a terminal.
type screen struct {
	b      strings.Builder
	width  int
	colour bool
}

// A style is an SGR number; 0 is none.
type style int

const (
	plainStyle style = 0
	bold       style = 1
	dim        style = 2
	red        style = 31
	green      style = 32
	yellow     style = 33
)

type part struct {
	style style
	text  string
}

func (s *screen) blank() { s.b.WriteByte('\n') }

// line writes parts on one line and cuts it at the width.
func (s *screen) line(parts ...part) {
	left := s.width
	parts = slices.Clone(parts)
	for i := len(parts) - 1; i >= 0; i-- { // no blanks at the end of a line
		parts[i].text = strings.TrimRight(printable(parts[i].text), " ")
		if parts[i].text != "" {
			break
		}
	}
	for _, p := range parts {
		text := cut(printable(p.text), left)
		left -= utf8.RuneCountInString(text)
		if s.colour && p.style != plainStyle && text != "" {
			fmt.Fprintf(&s.b, "\x1b[%dm%s\x1b[0m", p.style, text)
			continue
		}
		s.b.WriteString(text)
	}
	s.b.WriteByte('\n')
}

// wrapped breaks a text between words.
func (s *screen) wrapped(st style, text string) {
	line := ""
	for _, word := range strings.Fields(printable(text)) {
		if line != "" && utf8.RuneCountInString(line)+1+utf8.RuneCountInString(word) > s.width {
			s.line(part{st, line})
			line = ""
		}
		if line != "" {
			line += " "
		}
		line += word
	}
	if line != "" {
		s.line(part{st, line})
	}
}

// printable takes out what a terminal would obey.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\n' || r == '\t':
			return ' '
		case unicode.IsControl(r) || unicode.In(r, unicode.Cf):
			return '\uFFFD'
		case r == '\u00a0':
			return ' '
		}
		return r
	}, s)
}

func padLeft(s string, n int) string {
	return strings.Repeat(" ", max(0, n-utf8.RuneCountInString(s))) + s
}

func padRight(s string, n int) string {
	return s + strings.Repeat(" ", max(0, n-utf8.RuneCountInString(s)))
}
