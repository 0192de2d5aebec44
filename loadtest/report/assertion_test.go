package report

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"hostlocal/loadtest"
)

// measured is a round with round numbers: wall 4 s, p99 3 s, 2 of 10 MiB from disk.
func measured(wall time.Duration) loadtest.Measurement {
	return loadtest.Measurement{
		Wall: wall, Wanted: 1 << 20, Received: 10 << 20, Verified: 10 << 20,
		Wait:      loadtest.Quantiles{Count: 10, Mean: 2 * time.Second, P50: time.Second, P90: 2500 * time.Millisecond, P99: 3 * time.Second, P999: 3500 * time.Millisecond, Max: 4 * time.Second},
		FirstByte: loadtest.Quantiles{Count: 10, P50: 10 * time.Millisecond},
		Sources:   map[string]int64{"disk": 8 << 20, "fill": 1 << 20, "": 1 << 20},
		Upstream:  loadtest.Traffic{Requests: map[string]int{"blob": 3, "manifest": 2}, Sent: 1 << 20},
		CPU:       time.Second / 4,
		Usage:     []loadtest.Usage{{RSS: 50 << 20, Descriptors: 30}, {RSS: 70 << 20, Descriptors: 40}, {RSS: 60 << 20}},
		Failures:  []loadtest.Failures{{Kind: "status 503", Count: 2}},
		Pulls:     []loadtest.Pull{{End: time.Second}, {End: wall, Failure: "status 503"}},
	}
}

func contender(name string, walls ...time.Duration) loadtest.Contender {
	c := loadtest.Contender{Name: name}
	for _, w := range walls {
		c.Rounds = append(c.Rounds, measured(w))
	}
	return c
}

func TestAssertionsJudgeTheFirstContender(t *testing.T) {
	r := loadtest.Report{Contenders: []loadtest.Contender{
		contender("registryd", 4*time.Second, 9*time.Second, 5*time.Second),
		contender("nginx", 4*time.Second, 3*time.Second, 5*time.Second),
		contender("other/one:v2", 2*time.Second, 2*time.Second, 2*time.Second),
	}}
	for text, want := range map[string]bool{
		"amplification<=1.01": true, "amplification <= 0.99": false, "amplification==1": true, "amplification!=1": false,
		"p99(pull)<=3s": true, "p99(pull)<3s": false, "p99(pull)<=2999ms": false, "p50(first_byte)==10ms": true, "mean(pull)==2s": true, "p999(pull)>3s": true, "max(pull)>=4s": true,
		"wall==5s": true, "wall <= 0.1min": true, // the median of 4, 9, 5
		"wall/wall(nginx)<=1.01": true, "wall/wall(nginx)==1": true, // of 1, 3, 1
		"wall(nginx)==4s": true, "wall(other/one:v2)*2==4s": true,
		"p99(pull)/p99(pull,nginx)<=3": true, "p99(pull, other/one:v2) == 3s": true,
		"errors==0": false, "errors==2": true, "failed==1": true,
		"rss_peak<=70MiB": true, "rss_peak<70MiB": false, "rss_peak==73.400320MB": true, "descriptors_peak==40": true,
		"sources.disk==80%": true, "sources.unnamed==0.1": true, "sources.store==0": true,
		"upstream_requests==5": true, "cpu_per_gib==25.6": true, "verified==100%": true,
		"upstream_bytes-wanted==0B": true, "upstream_bytes<=1.0*wanted+1KiB": true, "(wall+wall)/2==5s": true, "throughput*wall<=received+1B": true,
		"throughput>=1MiB/1s": true,
		// What was not measured holds nothing, not even "is not".
		"goroutines_peak<=10": false, "goroutines_peak!=10": false, "bucket_requests==0": false, "wall(nobody)>=0s": false, "wall/(wall-wall)>=1": false,
	} {
		a, err := ParseAssertion(text)
		if err != nil {
			t.Error(err)
			continue
		}
		if v := Check(r, []Assertion{a})[0]; v.OK != want || v.Contender != "registryd" || v.Assertion != text {
			t.Errorf("%s: %+v", text, v)
		}
	}
}

// TestARoundThatBrokeFailsTheGate: two good rounds must not outvote one in which
// nothing could be measured.
func TestARoundThatBrokeFailsTheGate(t *testing.T) {
	c := contender("registryd", time.Second, time.Second, time.Second)
	c.Rounds[1].Wait = loadtest.Quantiles{}
	a, err := ParseAssertion("p99(pull)<=3s")
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range []loadtest.Report{{Contenders: []loadtest.Contender{c}}, {Contenders: []loadtest.Contender{{Name: "registryd"}}}, {}, {Ladder: &loadtest.Ladder{}}} {
		vs := Check(r, []Assertion{a})
		if len(vs) != 1 || vs[0].OK || !math.IsNaN(vs[0].Value) {
			t.Errorf("verdicts %+v", vs)
		}
	}
}

func TestALadderIsJudgedAtEachStep(t *testing.T) {
	step := func(v int64, name string, wall time.Duration) loadtest.Step {
		return loadtest.Step{Value: v, Contender: name, Measurement: measured(wall)}
	}
	r := loadtest.Report{Ladder: &loadtest.Ladder{Of: "clients", Steps: []loadtest.Step{
		step(1, "registryd", time.Second), step(1, "nginx", time.Second), step(1000, "registryd", 3*time.Second), step(1000, "nginx", time.Second), step(5000, "registryd", time.Second),
	}}}
	a, err := ParseAssertion("wall/wall(nginx)<=2")
	if err != nil {
		t.Fatal(err)
	}
	vs := Check(r, []Assertion{a})
	if len(vs) != 3 || !vs[0].OK || vs[1].OK || vs[1].Value != 3 || vs[1].Contender != "registryd at 1,000 clients" || vs[2].OK || !math.IsNaN(vs[2].Value) {
		t.Errorf("verdicts %+v", vs)
	}
}

func TestBadAssertionsSayWhatIsPossible(t *testing.T) {
	for text, want := range map[string]string{
		"":                                  "amplification",
		"amplificaton<=1":                   `there is no "amplificaton"; possible are p50`,
		"p99<=3s":                           "p99(pull) or p99(first_byte)",
		"p99(push)<=3s":                     "p99(pull) or p99(first_byte)",
		"p99(pull)<=3":                      "the left side is a time (write 3s, 250ms), and the right side is a plain number",
		"p99(pull)<=3parsecs":               `"parsecs" is not a unit: possible are ns, us, ms, s`,
		"rss_peak<=128":                     "write 128MiB",
		"wall+rss_peak<=1s":                 "it adds",
		"errors=0":                          `is followed by "=0" where a comparison belongs`,
		"errors":                            "where a comparison belongs",
		"errors==0 please":                  `it should end before "please"`,
		"errors==":                          "a number or one of these",
		"(errors==0":                        "bracket",
		"wall(nginx<=3s":                    "is not closed",
		"wall(a,b)<=3s":                     "takes the name of one contender",
		"wall()<=3s":                        "takes the name of one contender",
		"wall<=1.2.3s":                      "is not a number",
		"sources.<=1":                       `there is no "sources."`,
		strings.Repeat("(", 501):            "at most 500 characters",
		"wall<=" + strings.Repeat("(", 400): "a number or one of these",
	} {
		a, err := ParseAssertion(text)
		if err == nil {
			t.Errorf("%q was taken: %v", text, a)
		} else if !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v\nwithout %q", text, err, want)
		}
	}
}

func TestAnAssertionNamesItsContenders(t *testing.T) {
	a, err := ParseAssertion("wall/wall(nginx)<=p99(pull,zot)/p99(pull, nginx)")
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(a.Contenders()); got != "[nginx zot]" {
		t.Errorf("it names %s", got)
	}
}

// TestTheParserAgreesWithTheTree writes random trees of sums and products down with
// as few brackets as precedence allows, and compares what comes back.
func TestTheParserAgreesWithTheTree(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	report := loadtest.Report{Contenders: []loadtest.Contender{contender("x", 4*time.Second)}}
	var tree func(depth int) (text string, value float64, binds int)
	tree = func(depth int) (string, float64, int) {
		if depth == 0 || r.IntN(4) == 0 {
			if r.IntN(3) == 0 {
				return "upstream_requests", 5, 3
			}
			n := r.IntN(9) + 1
			return fmt.Sprint(n), float64(n), 3
		}
		a, av, ab := tree(depth - 1)
		b, bv, bb := tree(depth - 1)
		op := r.IntN(4)
		binds := 1 + op/2
		if ab < binds {
			a = "(" + a + ")"
		}
		if bb <= binds { // both associate to the left
			b = "(" + b + ")"
		}
		space := strings.Repeat(" ", r.IntN(2))
		text := a + space + "+-*/"[op:op+1] + space + b
		return text, []float64{av + bv, av - bv, av * bv, av / bv}[op], binds
	}
	for range 3000 {
		text, want, _ := tree(4)
		a, err := ParseAssertion(text + "<=" + text)
		if err != nil {
			if len(text) > maxAssertion/2-1 {
				continue
			}
			t.Fatal(err)
		}
		v := Check(report, []Assertion{a})[0]
		if !finite(want) {
			want = math.NaN()
		}
		if v.Value != want && !(math.IsNaN(v.Value) && math.IsNaN(want)) || v.OK == math.IsNaN(want) {
			t.Fatalf("%s is %v, not %v (%v)", text, v.Value, want, v.OK)
		}
	}
}

// FuzzParseAssertion: whatever is typed, the parser ends with an answer, and what it
// takes means the same when it is read again.
func FuzzParseAssertion(f *testing.F) {
	for _, s := range []string{"p99(pull)<=3s", "wall/wall(nginx)<=1.3", "sources.disk>=50%", "((1+2)*3-4)/5!=0", "rss_peak<128MiB", "a(", "1..2<3", "µs", "p99(pull,\x00)<=1s"} {
		f.Add(s)
	}
	report := loadtest.Report{Contenders: []loadtest.Contender{contender("registryd", 4*time.Second), contender("nginx", 3*time.Second)}}
	f.Fuzz(func(t *testing.T, text string) {
		a, err := ParseAssertion(text)
		if err != nil {
			if !strings.Contains(err.Error(), "assertion") {
				t.Errorf("%q: the message does not say what it is about: %v", text, err)
			}
			return
		}
		again, err := ParseAssertion(" " + a.String() + "\t")
		if err != nil {
			if len(text)+2 > maxAssertion {
				return
			}
			t.Fatalf("%q was taken, and not with blanks around it: %v", text, err)
		}
		v, w := Check(report, []Assertion{a})[0], Check(report, []Assertion{again})[0]
		if v.OK != w.OK || v.Value != w.Value && !math.IsNaN(v.Value) {
			t.Errorf("%q: %+v and %+v", text, v, w)
		}
		if math.IsInf(v.Value, 0) || v.OK && math.IsNaN(v.Value) {
			t.Errorf("%q: %+v", text, v)
		}
	})
}
