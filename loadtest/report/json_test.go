package report

import (
	"bytes"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"

	"hostlocal/loadtest"
)

func TestReportsSurviveJSON(t *testing.T) {
	for name, r := range samples() {
		r.Verdicts = append(slices.Clone(r.Verdicts), loadtest.Verdict{Assertion: "wall<=3s", Contender: "x", Value: 2.5, OK: true})
		var b bytes.Buffer
		if err := WriteJSON(&b, r); err != nil {
			t.Fatal(err)
		}
		got, err := ReadJSON(&b)
		if err != nil {
			t.Fatal(err)
		}
		// NaN is not equal to itself, so these are compared apart.
		for i := range r.Verdicts {
			if math.IsNaN(r.Verdicts[i].Value) && math.IsNaN(got.Verdicts[i].Value) {
				r.Verdicts[i].Value, got.Verdicts[i].Value = 0, 0
			}
		}
		if !reflect.DeepEqual(got, r) {
			t.Errorf("%s came back different", name)
		}
	}
}

func TestWhatIsNotANumberIsNotWritten(t *testing.T) {
	r := loadtest.Report{
		Scenario: loadtest.Scenario{Name: "x", Images: loadtest.Images{Zipf: math.Inf(1)}},
		Tool:     loadtest.Calibration{PullsPerSecond: math.NaN(), BytesPerSecond: 5},
		Verdicts: []loadtest.Verdict{{Assertion: "a", Value: math.NaN()}, {Assertion: "b", Value: math.Inf(1)}, {Assertion: "c", Value: 0}},
	}
	var b bytes.Buffer
	if err := WriteJSON(&b, r); err != nil {
		t.Fatal(err)
	}
	got, err := ReadJSON(&b)
	if err != nil {
		t.Fatal(err)
	}
	if v := got.Verdicts; len(v) != 3 || !math.IsNaN(v[0].Value) || !math.IsNaN(v[1].Value) || v[2].Value != 0 || got.Tool.BytesPerSecond != 5 || got.Tool.PullsPerSecond != 0 {
		t.Errorf("came back as %+v, %+v", v, got.Tool)
	}
	if !math.IsNaN(r.Tool.PullsPerSecond) || !math.IsNaN(r.Verdicts[0].Value) {
		t.Error("writing changed the report")
	}
}

func TestOtherFilesAreNotReports(t *testing.T) {
	for _, text := range []string{"", "{}", "[]", "null", "<!DOCTYPE html>", `{"scenario": 3}`, `{"contenders": [{"rounds": [{"wall": "3s"}]}]}`} {
		if _, err := ReadJSON(strings.NewReader(text)); err == nil || !strings.Contains(err.Error(), "not a report") {
			t.Errorf("%q: %v", text, err)
		}
	}
}
