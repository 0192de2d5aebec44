package main

import (
	"strings"
	"testing"
)

// TestBuildNamesWhatItDoesNotKnow keeps a misspelt name from being a silent
// success.
func TestBuildNamesWhatItDoesNotKnow(t *testing.T) {
	t.Setenv("REGISTRYD_TEST_BIN", t.TempDir())
	err := run([]string{"build", "minoi"})
	if err == nil || !strings.Contains(err.Error(), `"minoi"`) {
		t.Errorf("build minoi: %v, want an error that names it", err)
	}
}

func TestNothingSkippedPrintsNothing(t *testing.T) {
	if err := run([]string{"skipped", t.TempDir() + "/none"}); err != nil {
		t.Errorf("a run without a list of skips: %v", err)
	}
}
