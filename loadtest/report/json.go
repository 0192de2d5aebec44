package report

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"

	"hostlocal/loadtest"
)

// maxJSON bounds a report that is read back: six contenders with five rounds of
// 100,000 pulls take about 600 MB.
const maxJSON = 1 << 30

// A document is a report as JSON: JSON has no NaN, and a verdict about something
// that was not measured has no value.
type document struct {
	loadtest.Report
	Verdicts []verdict `json:"verdicts,omitempty"` // stands before Report's own
}

type verdict struct {
	loadtest.Verdict
	Value *float64 `json:"value"`
}

// WriteJSON writes the report in the form that ReadJSON reads. A verdict without a
// value has null.
func WriteJSON(w io.Writer, r loadtest.Report) error {
	doc := document{Report: r}
	for _, v := range r.Verdicts {
		one := verdict{Verdict: v}
		if finite(v.Value) {
			one.Value = &v.Value
		}
		doc.Verdicts = append(doc.Verdicts, one)
	}
	for _, f := range []*float64{
		&doc.Tool.PullsPerSecond, &doc.Tool.RequestsPerSecond, &doc.Tool.BytesPerSecond,
		&doc.Scenario.Images.Scale, &doc.Scenario.Images.Zipf, &doc.Scenario.Images.OneShot, &doc.Scenario.Images.Bump,
	} {
		if !finite(*f) {
			*f = 0 // which is how these say that they are not known or not set
		}
	}
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", " ")
	if err := encoder.Encode(doc); err != nil {
		return fmt.Errorf("writing the report as JSON: %w", err)
	}
	return nil
}

// ReadJSON reads what WriteJSON wrote. A verdict without a value gets NaN. A file
// of more than 1 GiB, or one that is something else, is an error.
func ReadJSON(r io.Reader) (loadtest.Report, error) {
	limited := &io.LimitedReader{R: r, N: maxJSON + 1}
	decoder := json.NewDecoder(limited)
	var doc document
	if err := decoder.Decode(&doc); err != nil {
		if limited.N <= 0 {
			err = errors.New("it is larger than 1 GiB")
		}
		return loadtest.Report{}, fmt.Errorf("this is not a report of loadtest (name the .json file beside the .html): %w", err)
	}
	if doc.Scenario.Name == "" && len(doc.Contenders) == 0 && doc.Ladder == nil {
		return loadtest.Report{}, errors.New("this JSON is not a report of loadtest: it has no scenario and no contenders")
	}
	report := doc.Report
	report.Verdicts = nil
	for _, v := range doc.Verdicts {
		one := v.Verdict
		one.Value = math.NaN()
		if v.Value != nil {
			one.Value = *v.Value
		}
		report.Verdicts = append(report.Verdicts, one)
	}
	return report, nil
}
