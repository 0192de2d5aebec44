package report

import (
	"math"
	"strconv"
	"strings"
	"time"
)

// kind is what a number counts, and so how it is written.
type kind int

const (
	number  kind = iota // without a unit: a ratio
	count               // whole things
	seconds             // a time in seconds
	byteCount
	rate  // bytes a second
	share // of one, written in per cent
)

// missing stands where there is no number.
const missing = "–"

// A quantity is a number as people read it.
type quantity struct{ Number, Unit string }

func (q quantity) String() string {
	if q.Unit == "" {
		return q.Number
	}
	return q.Number + "\u00a0" + q.Unit // a number and its unit stay on one line
}

// units are the steps of a kind, least first.
var units = map[kind][]struct {
	name string
	size float64
}{
	seconds:   {{"µs", 1e-6}, {"ms", 1e-3}, {"s", 1}, {"min", 60}, {"h", 3600}},
	byteCount: {{"B", 1}, {"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"TiB", 1 << 40}, {"PiB", 1 << 50}},
	rate:      {{"B/s", 1}, {"KiB/s", 1 << 10}, {"MiB/s", 1 << 20}, {"GiB/s", 1 << 30}, {"TiB/s", 1 << 40}},
}

// unitFrom is from which value on a unit is used. Seconds go far, because 95 s and
// 41 s are compared more easily than 1.58 min and 41 s.
func unitFrom(k kind, i int) float64 {
	u := units[k][i]
	switch u.name {
	case "min":
		return 600
	case "h":
		return 3 * 3600
	}
	return u.size * 0.9995 // so that 999.96 ms is not written as 1,000 ms
}

// format writes v with three significant digits and the unit that fits it.
func format(v float64, k kind) quantity { return formatIn(v, k, unitOf(v, k)) }

// unitOf is the index of the unit that fits v.
func unitOf(v float64, k kind) int {
	best := 0
	for i := range units[k] {
		if math.Abs(v) >= unitFrom(k, i) {
			best = i
		}
	}
	if k == seconds && v == 0 {
		return 2
	}
	return best
}

// formatIn writes v in a unit that the caller chose, so that a row of numbers can
// be compared at a glance.
func formatIn(v float64, k kind, unit int) quantity {
	switch {
	case !finite(v):
		return quantity{missing, ""}
	case k == count:
		return quantity{grouped(strconv.FormatFloat(math.Round(v), 'f', -1, 64)), ""}
	case k == share:
		return quantity{twoDecimals(v * 100), "%"}
	case k == number:
		return quantity{threeDigits(v), ""}
	}
	u := units[k][unit]
	if u.name == "B" {
		return quantity{grouped(strconv.FormatFloat(math.Round(v), 'f', -1, 64)), u.name}
	}
	return quantity{threeDigits(v / u.size), u.name}
}

// threeDigits rounds to three significant digits, but never the part before the
// point: 0.0123, 1.23, 12.3, 123, 1,234.
func threeDigits(v float64) string {
	a := math.Abs(v)
	switch {
	case !finite(v):
		return missing
	case a == 0:
		return "0"
	case a < 1e-4:
		return strconv.FormatFloat(v, 'e', 1, 64)
	case a >= 1e15:
		return strconv.FormatFloat(v, 'e', 2, 64)
	}
	// Rounding first: 9.996 is 10.0 and not 10.00.
	_, exponent, _ := strings.Cut(strconv.FormatFloat(v, 'e', 2, 64), "e")
	e, _ := strconv.Atoi(exponent)
	return grouped(strconv.FormatFloat(v, 'f', max(2-e, 0), 64))
}

// grouped sets a comma before each three digits of the whole part.
func grouped(s string) string {
	whole, rest, point := strings.Cut(s, ".")
	sign := ""
	if strings.HasPrefix(whole, "-") {
		sign, whole = "-", whole[1:]
	}
	for i := len(whole) - 3; i > 0; i -= 3 {
		whole = whole[:i] + "," + whole[i:]
	}
	if point {
		return sign + whole + "." + rest
	}
	return sign + whole
}

// times is a ratio: 1.00×, 12.8×.
func times(v float64) string {
	if !finite(v) {
		return missing
	}
	return twoDecimals(v) + "×"
}

// twoDecimals is for ratios near one, where the third digit after the point is
// noise and the second is what an assertion speaks of.
func twoDecimals(v float64) string {
	switch a := math.Abs(v); {
	case !finite(v):
		return missing
	case a < 9.995 && (a >= 0.01 || a == 0):
		return strconv.FormatFloat(v, 'f', 2, 64)
	}
	return threeDigits(v)
}

func inSeconds(d time.Duration) string { return format(d.Seconds(), seconds).String() }

func inBytes(n int64) string { return format(float64(n), byteCount).String() }

func inCount(n int) string { return format(float64(n), count).String() }

// plural says how many of something there are.
func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return inCount(n) + " " + many
}

// cut bounds a text that came from outside, in runes, and shows that it did.
func cut(s string, most int) string {
	if len(s) <= most {
		return strings.ToValidUTF8(s, "\uFFFD")
	}
	runes := []rune(strings.ToValidUTF8(s[:min(len(s), 4*most)], "\uFFFD"))
	if len(runes) <= most {
		return string(runes)
	}
	return string(runes[:max(most-1, 0)]) + "…"
}
