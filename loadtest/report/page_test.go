package report

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/html"

	"hostlocal/loadtest"
)

// render writes a page and parses it strictly: every element that is opened is
// closed in order, and nothing on it reaches outside.
func render(t *testing.T, r loadtest.Report) (*html.Node, string) {
	t.Helper()
	var b bytes.Buffer
	if err := WriteHTML(&b, r); err != nil {
		t.Fatal(err)
	}
	text := b.String()
	wantBalanced(t, text)
	root, err := html.Parse(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	wantSelfContained(t, root)
	return root, text
}

var void = []string{"meta", "br", "path", "rect", "circle"}

// wantBalanced fails at the first end tag that closes something else.
func wantBalanced(t *testing.T, text string) {
	t.Helper()
	var open []string
	tokens := html.NewTokenizer(strings.NewReader(text))
	for {
		switch kind := tokens.Next(); kind {
		case html.ErrorToken:
			if len(open) > 0 {
				t.Fatalf("%v are not closed", open)
			}
			return
		case html.StartTagToken:
			name, _ := tokens.TagName()
			if s := string(name); !slices.Contains(void[:2], s) {
				open = append(open, s)
			}
		case html.EndTagToken:
			name, _ := tokens.TagName()
			if len(open) == 0 || open[len(open)-1] != string(name) {
				t.Fatalf("</%s> stands within %v", name, open)
			}
			open = open[:len(open)-1]
		}
	}
}

// elements are all that a page may be made of: none of them loads or runs anything.
var elements = strings.Fields("html head meta title style body main header section footer h1 h2 h3 p b small span br ul li dl dt dd code pre div figure figcaption table caption thead tbody tr th td svg desc path rect circle text")

// attributes likewise.
var attributes = strings.Fields("lang charset name content http-equiv class title scope tabindex role aria-label data-column viewbox viewBox width height x y r cx cy d text-anchor stroke-width")

func wantSelfContained(t *testing.T, root *html.Node) {
	t.Helper()
	for n := range root.Descendants() {
		if n.Type != html.ElementNode {
			continue
		}
		if !slices.Contains(elements, n.Data) {
			t.Fatalf("the page has an element %s", n.Data)
		}
		for _, a := range n.Attr {
			if !slices.Contains(attributes, a.Key) {
				t.Fatalf("%s has an attribute %s=%q", n.Data, a.Key, a.Val)
			}
		}
		if style := textOf(n); n.Data == "style" && (strings.Contains(style, "url(") || strings.Contains(style, "@import")) {
			t.Fatal("the style sheet loads something")
		}
	}
}

func textOf(n *html.Node) string {
	var b strings.Builder
	for d := range n.Descendants() {
		if d.Type == html.TextNode {
			b.WriteString(d.Data)
		}
	}
	return b.String()
}

func find(root *html.Node, element string) []*html.Node {
	var found []*html.Node
	for n := range root.Descendants() {
		if n.Type == html.ElementNode && n.Data == element {
			found = append(found, n)
		}
	}
	return found
}

func attribute(n *html.Node, key string) string {
	for _, a := range n.Attr {
		if a.Key == key {
			return a.Val
		}
	}
	return ""
}

func TestPagesOfAllKindsStandAlone(t *testing.T) {
	for name, r := range samples() {
		root, text := render(t, r)
		if n := len(text); n > 300<<10 {
			t.Errorf("%s takes %d bytes", name, n)
		}
		for _, svg := range find(root, "svg") {
			if titles := find(svg, "title"); len(titles) == 0 || textOf(titles[0]) == "" {
				t.Errorf("%s: a picture has no title", name)
			}
		}
		if !strings.Contains(textOf(root), r.Scenario.Description) {
			t.Errorf("%s: the scenario is not described", name)
		}
	}
}

// TestPicturesAreWellFormed: an SVG that is cut out of the page and saved is a
// picture still.
func TestPicturesAreWellFormed(t *testing.T) {
	_, text := render(t, samples()["comparison"])
	pictures := regexp.MustCompile(`(?s)<svg.*?</svg>`).FindAllString(text, -1)
	if len(pictures) < 10 {
		t.Fatalf("there are %d pictures", len(pictures))
	}
	for _, picture := range pictures {
		if err := xml.Unmarshal([]byte(picture), new(struct{})); err != nil {
			t.Errorf("%v: %.200s", err, picture)
		}
	}
}

// TestTheTableSaysWhatWasMeasured computes each cell again from the rounds, with
// arithmetic of its own.
func TestTheTableSaysWhatWasMeasured(t *testing.T) {
	r := samples()["comparison"]
	root, _ := render(t, r)
	median := func(c loadtest.Contender, of func(loadtest.Measurement) float64) float64 {
		var vs []float64
		for _, m := range c.Rounds {
			vs = append(vs, of(m))
		}
		slices.Sort(vs)
		return vs[len(vs)/2] // an odd number of rounds
	}
	want := map[string]func(loadtest.Measurement) float64{
		"wall":            func(m loadtest.Measurement) float64 { return m.Wall.Seconds() },
		"p50(pull)":       func(m loadtest.Measurement) float64 { return m.Wait.P50.Seconds() },
		"p90(pull)":       func(m loadtest.Measurement) float64 { return m.Wait.P90.Seconds() },
		"p99(pull)":       func(m loadtest.Measurement) float64 { return m.Wait.P99.Seconds() },
		"p999(pull)":      func(m loadtest.Measurement) float64 { return m.Wait.P999.Seconds() },
		"max(pull)":       func(m loadtest.Measurement) float64 { return m.Wait.Max.Seconds() },
		"p99(first_byte)": func(m loadtest.Measurement) float64 { return m.FirstByte.P99.Seconds() },
		"amplification":   func(m loadtest.Measurement) float64 { return float64(m.Upstream.Sent) / float64(m.Wanted) },
		"upstream_bytes":  func(m loadtest.Measurement) float64 { return float64(m.Upstream.Sent) },
		"received":        func(m loadtest.Measurement) float64 { return float64(m.Received) },
		"cpu_per_gib":     func(m loadtest.Measurement) float64 { return m.CPU.Seconds() * 1073741824 / float64(m.Received) },
		"upstream_requests": func(m loadtest.Measurement) float64 {
			return float64(m.Upstream.Requests["blob"] + m.Upstream.Requests["manifest"])
		},
		"sources.disk": func(m loadtest.Measurement) float64 { return float64(m.Sources["disk"]) / float64(m.Received) * 100 },
		"pulls":        func(m loadtest.Measurement) float64 { return float64(len(m.Pulls)) },
	}
	size := map[string]float64{"ms": 1e-3, "s": 1, "min": 60, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "%": 1, "": 1}
	seen := 0
	for _, tr := range find(root, "tr") {
		of := want[attribute(tr, "data-column")]
		if of == nil {
			continue
		}
		seen++
		cells := find(tr, "td")
		if len(cells) != len(r.Contenders) {
			t.Fatalf("%s has %d cells", attribute(tr, "data-column"), len(cells))
		}
		for i, td := range cells {
			spans := find(td, "span") // number, whole, fraction, unit
			v, known := median(r.Contenders[i], of), size[textOf(spans[3])]
			digits := strings.ReplaceAll(textOf(spans[1])+textOf(spans[2]), ",", "")
			if digits == missing && attribute(tr, "data-column") == "sources.disk" && i > 0 {
				continue
			}
			got, err := strconv.ParseFloat(digits, 64)
			if err != nil || known == 0 || math.Abs(got*known-v) > 0.006*v {
				t.Errorf("%s of %s is %q %q, and was %v", attribute(tr, "data-column"), r.Contenders[i].Name, digits, textOf(spans[3]), v)
			}
		}
	}
	if seen != len(want) {
		t.Errorf("%d of %d rows are in the table", seen, len(want))
	}
}

// TestHostileTextStaysText puts markup wherever text comes from outside.
func TestHostileTextStaysText(t *testing.T) {
	const evil = `"'><script>alert(1)</script><img src=http://evil.test/x onerror=alert(1)></style></svg><!--{{.}}`
	r := newSample(2).comparison(2, 40, "registryd", "zot")
	r.Ladder = newSample(3).ladder("registryd").Ladder
	poison(reflect.ValueOf(&r).Elem(), evil)
	root, text := render(t, r) // which fails at an element or an attribute that a page does not have
	if strings.Contains(text, "<script") || strings.Contains(text, "<img") {
		t.Error("markup came through")
	}
	if !strings.Contains(textOf(root), "alert(1)") {
		t.Error("the text itself was lost, so this test tests nothing")
	}
}

// poison sets every string in v, the keys of maps included.
func poison(v reflect.Value, text string) {
	switch v.Kind() {
	case reflect.String:
		v.SetString(text)
	case reflect.Struct:
		for i := range v.NumField() {
			if v.Type() != reflect.TypeFor[time.Time]() {
				poison(v.Field(i), text)
			}
		}
	case reflect.Slice:
		for i := range v.Len() {
			poison(v.Index(i), text)
		}
	case reflect.Pointer:
		if !v.IsNil() {
			poison(v.Elem(), text)
		}
	case reflect.Map:
		if v.Type().Key().Kind() == reflect.String && v.Len() > 0 {
			first := v.MapIndex(v.MapKeys()[0])
			v.Set(reflect.MakeMap(v.Type()))
			v.SetMapIndex(reflect.ValueOf(text), first)
		}
	}
}

// TestAHundredThousandPullsFitAMegabyte takes all bounds at once: six contenders,
// long texts, thousands of kinds of errors.
func TestAHundredThousandPullsFitAMegabyte(t *testing.T) {
	s := newSample(4)
	long := strings.Repeat("x<y&", 500)
	var cs []loadtest.Contender
	for i := range 6 {
		c := s.contender(fmt.Sprintf("contender-%d", i), 3, 5600, habit{5, .4, 2, 2, 1 << 28, .05, map[string]float64{"disk": .5, long: .1}})
		c.Settings = slices.Repeat([]string{long}, 200)
		for k := range c.Rounds {
			m := &c.Rounds[k]
			m.HeldBack = long
			m.Profiles = slices.Repeat([]string{long}, 500)
			m.Usage = slices.Repeat(m.Usage, 50)
			for n := range 60 {
				m.Failures = append(m.Failures, loadtest.Failures{Kind: fmt.Sprint(long, n), Count: n, Examples: []string{long, long + "2", long + "3", long + "4"}})
			}
		}
		cs = append(cs, c)
	}
	r := s.report(long, 100000, cs...)
	r.Command, r.Version, r.Ended = []string{long, long}, long, long
	r.Scenario.Images.Layers = make([]loadtest.Size, 100000)
	r.Verdicts = slices.Repeat([]loadtest.Verdict{{Assertion: long, Contender: long}}, 5000)
	root, text := render(t, r)
	if len(text) > 1<<20 {
		t.Errorf("the page takes %d bytes", len(text))
	}
	if !strings.Contains(textOf(root), "5,600 pulls, about one in 51 drawn") {
		t.Error("the page does not say that it thinned the pulls")
	}
}

// TestAbsurdReportsHavePages fills reports with what a file can hold and a run
// cannot bring: negative times, no rounds, overflowing counts.
func TestAbsurdReportsHavePages(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 8))
	for i := range 100 {
		var r loadtest.Report
		absurd(rng, reflect.ValueOf(&r).Elem(), 0)
		_, text := render(t, r)
		for _, bad := range []string{"NaN", "+Inf", "-Inf", "%!"} {
			if strings.Contains(text, bad) {
				t.Fatalf("page %d says %s: …%.80s", i, bad, text[max(0, strings.Index(text, bad)-60):])
			}
		}
		wantPlainLines(t, r, 80)
	}
}

func absurd(rng *rand.Rand, v reflect.Value, depth int) {
	switch v.Kind() {
	case reflect.String:
		v.SetString([]string{"", "a", "wall<=3s", "disk", "\x1b[2J\x00\u202e", "blob size", "<b>"}[rng.IntN(7)])
	case reflect.Int, reflect.Int64:
		v.SetInt([]int64{0, 1, -1, 5, 1000, 3e9, math.MaxInt32, math.MaxInt64, math.MinInt64}[rng.IntN(9)])
	case reflect.Uint64:
		v.SetUint(rng.Uint64())
	case reflect.Float64:
		v.SetFloat([]float64{0, 1, -1, math.NaN(), math.Inf(1), math.Inf(-1), 1e300, 5e-324}[rng.IntN(8)])
	case reflect.Bool:
		v.SetBool(rng.IntN(2) == 0)
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[time.Time]() {
			return
		}
		for i := range v.NumField() {
			absurd(rng, v.Field(i), depth+1)
		}
	case reflect.Slice:
		n := rng.IntN(4)
		v.Set(reflect.MakeSlice(v.Type(), n, n))
		for i := range n {
			absurd(rng, v.Index(i), depth+1)
		}
	case reflect.Pointer:
		if rng.IntN(3) > 0 {
			v.Set(reflect.New(v.Type().Elem()))
			absurd(rng, v.Elem(), depth+1)
		}
	case reflect.Map:
		if v.Type().Key().Kind() != reflect.String || rng.IntN(3) == 0 {
			return
		}
		v.Set(reflect.MakeMap(v.Type()))
		for range rng.IntN(3) {
			key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
			absurd(rng, key, depth+1)
			absurd(rng, value, depth+1)
			v.SetMapIndex(key, value)
		}
	}
}

// TestColoursAreReadable computes WCAG's contrast of each colour that text or a line
// has, against the paper, light and dark.
func TestColoursAreReadable(t *testing.T) {
	light, rest, _ := strings.Cut(pageStyle, "@media (prefers-color-scheme: dark)")
	dark, rest, _ := strings.Cut(rest, "* {")
	_, print, _ := strings.Cut(rest, "@media print")
	for name, sheet := range map[string]string{"light": light, "dark": dark, "print": print} {
		colours := map[string]string{}
		for _, m := range regexp.MustCompile(`--([a-z0-9-]+): (#[0-9a-f]{6}|#[0-9a-f]{3});`).FindAllStringSubmatch(sheet, -1) {
			colours[m[1]] = m[2]
		}
		want := func(ink, paper string, least float64) {
			if got := contrast(t, colours[ink], colours[paper]); got < least {
				t.Errorf("%s: %s on %s has a contrast of %.2f, below %.1f", name, ink, paper, got, least)
			}
		}
		for _, ink := range []string{"ink", "soft", "good", "bad", "c0", "c1", "c2", "c3", "c4", "c5"} {
			want(ink, "paper", 4.5)
			want(ink, "card", 4.5)
		}
		want("warn-ink", "warn", 4.5)
		for _, fill := range []string{"disk", "fill", "store", "upstream", "none"} {
			want(fill, "paper", 3)
		}
	}
}

func contrast(t *testing.T, a, b string) float64 {
	luminance := func(s string) float64 {
		if len(s) == 4 {
			s = "#" + s[1:2] + s[1:2] + s[2:3] + s[2:3] + s[3:] + s[3:]
		}
		v, err := strconv.ParseUint(strings.TrimPrefix(s, "#"), 16, 32)
		if err != nil {
			t.Fatalf("the style sheet has no colour %q", s)
		}
		sum := 0.0
		for i, weight := range []float64{.2126, .7152, .0722} {
			c := float64(v>>(16-8*i)&255) / 255
			if c <= .04045 {
				c /= 12.92
			} else {
				c = math.Pow((c+.055)/1.055, 2.4)
			}
			sum += weight * c
		}
		return sum
	}
	l, d := luminance(a), luminance(b)
	return (max(l, d) + .05) / (min(l, d) + .05)
}
