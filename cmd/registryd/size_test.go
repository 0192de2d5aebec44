package main

import "testing"

func TestSizesReadAsTheyAreWritten(t *testing.T) {
	const onDisk = 1000
	for s, want := range map[string]int64{
		"50GiB": 50 << 30, "64MiB": 64 << 20, "64mib": 64 << 20, "50GB": 50e9, "50G": 50e9,
		"1.5GiB": 3 << 29, "1000000": 1e6, "0": 0, "80%": 800, "0.5%": 5, "100%": 1000,
	} {
		n, err := parseSize(s)
		if err != nil {
			t.Errorf("%s: %v", s, err)
			continue
		}
		if got := n.of(onDisk); got != want {
			t.Errorf("%s is %d bytes, want %d", s, got, want)
		}
		if again, err := parseSize(n.String()); err != nil || again != n {
			t.Errorf("%s is written %s, which reads as %v, %v", s, n, again, err)
		}
	}
	for _, s := range []string{"", "%", "-1", "-5%", "101%", "0%", "NaN%", "big", "10 potatoes", "1e30GiB"} {
		if n, err := parseSize(s); err == nil {
			t.Errorf("%q was read as %v", s, n)
		}
	}
}

func FuzzSize(f *testing.F) {
	f.Add("50GiB")
	f.Add("12.5%")
	f.Fuzz(func(t *testing.T, s string) {
		n, err := parseSize(s)
		if err != nil {
			return
		}
		if again, err := parseSize(n.String()); err != nil || again != n {
			t.Errorf("%q reads as %v, whose text %s reads as %v, %v", s, n, n, again, err)
		}
	})
}
