package loadtest

import (
	"testing"
)

func TestCalibrationIsPlausible(t *testing.T) {
	c, err := Calibrate(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%+v", c)
	if c.PullsPerSecond < 10 || c.RequestsPerSecond < c.PullsPerSecond || c.BytesPerSecond < 1<<20 || c.Clients < 4 {
		t.Errorf("%+v", c)
	}
}
