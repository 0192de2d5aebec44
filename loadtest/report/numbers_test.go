package report

import (
	"math"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestNumbersHaveThreeDigitsAndTheirUnit(t *testing.T) {
	for _, c := range []struct {
		v    float64
		kind kind
		want string
	}{
		{3.2, seconds, "3.20 s"}, {0.0123, seconds, "12.3 ms"}, {0.99996, seconds, "1.00 s"}, {0.9994, seconds, "999 ms"}, {95, seconds, "95.0 s"},
		{599, seconds, "599 s"}, {700, seconds, "11.7 min"}, {11000, seconds, "3.06 h"}, {0, seconds, "0 s"}, {2.5e-7, seconds, "0.250 µs"},
		{24 << 20, byteCount, "24.0 MiB"}, {1023, byteCount, "1,023 B"}, {1 << 20, byteCount, "1.00 MiB"}, {0, byteCount, "0 B"}, {1.9e9, rate, "1.77 GiB/s"},
		{9.996, number, "10.0"}, {0.99951, number, "1.00"}, {98.64, number, "98.6"}, {12345.6, number, "12,346"}, {-41.26, number, "-41.3"}, {1e-9, number, "1.0e-09"}, {1e22, number, "1.00e+22"},
		{1234567, count, "1,234,567"}, {-1234, count, "-1,234"}, {0.617, share, "61.7 %"}, {math.NaN(), byteCount, "–"}, {math.Inf(1), count, "–"},
	} {
		if got := strings.ReplaceAll(format(c.v, c.kind).String(), "\u00a0", " "); got != c.want {
			t.Errorf("format(%v) is %q, not %q", c.v, got, c.want)
		}
	}
}

// TestRoundedNumbersStayNear: what is read differs from what was measured by less
// than the third digit.
func TestRoundedNumbersStayNear(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 20000 {
		v := math.Exp(r.Float64()*40 - 9)
		text := strings.ReplaceAll(threeDigits(v), ",", "")
		back, err := strconv.ParseFloat(text, 64)
		if err != nil || math.Abs(back-v) > 0.0051*v {
			t.Fatalf("%v was written %q", v, text)
		}
		if digits := strings.TrimLeft(strings.ReplaceAll(text, ".", ""), "0"); v < 999.5 && v > 1e-4 && len(digits) != 3 {
			t.Fatalf("%v was written %q, with %d digits", v, text, len(digits))
		}
	}
}

func TestCutTextsAreBoundedAndWhole(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"short", "short"}, {"exactly ten", "exactly t…"}, {"äöüäöüäöüä", "äöüäöüäöüä"}, {"äöüäöüäöüäö", "äöüäöüäöü…"}, {"a\xffb", "a\uFFFDb"}, {strings.Repeat("界", 99), "界界界界界界界界界…"},
	} {
		if got := cut(c.in, 10); got != c.want || !utf8.ValidString(got) {
			t.Errorf("cut(%q) is %q, not %q", c.in, got, c.want)
		}
	}
}

// TestTicksAreFewRisingAndInside holds for whatever an axis spans.
func TestTicksAreFewRisingAndInside(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	for range 3000 {
		most := math.Exp(r.Float64()*60 - 20)
		least := most * math.Exp(-r.Float64()*20)
		scales := []scale{linearScale(most, 100, 0), exactScale(most, 0, 100), countScale(most, 100, 0), byteScale(most, 100, 0, byteCount), logScale(least, most, 100, 0), fitScale(least, most, 100, 0)}
		binary := logScale(least, most, 100, 0)
		binary.binary = true
		for i, s := range append(scales, binary) {
			ticks := s.ticks(5)
			if len(ticks) == 0 && !s.binary || len(ticks) > 14 {
				t.Fatalf("scale %d of %v to %v has ticks %v", i, least, most, ticks)
			}
			before := math.Inf(-1)
			for _, v := range ticks {
				if v <= before || v < s.min*(1-1e-6) || v > s.max*(1+1e-6) {
					t.Fatalf("scale %d of %v to %v, from %v to %v, has ticks %v", i, least, most, s.min, s.max, ticks)
				}
				before = v
			}
			if s.max < most*(1-1e-6) {
				t.Fatalf("scale %d ends at %v, below %v", i, s.max, most)
			}
		}
	}
}

// TestCoordinatesAreNumbers: a picture with a NaN in it is not drawn at all.
func TestCoordinatesAreNumbers(t *testing.T) {
	for v, want := range map[float64]string{1.26: "1.3", -0.04: "0", 100: "100", 1e12: "100000", math.Inf(-1): "0"} {
		if got := px(v); got != want {
			t.Errorf("px(%v) is %s, not %s", v, got, want)
		}
	}
	if got := px(math.NaN()); got != "0" {
		t.Errorf("NaN is %s", got)
	}
}
