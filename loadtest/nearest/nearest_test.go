package nearest

import "testing"

func TestASlipFindsItsWordAndAnotherWordDoesNot(t *testing.T) {
	words := []string{"clients", "count", "layers", "of"}
	for key, want := range map[string]string{
		"client": "clients", "cleints": "clients", "cuont": "count", "layer": "layers", "of": "of",
		"bucket": "", "": "", "if": "of", "x": "", "xy": "",
	} {
		if got := Word(key, words); got != want {
			t.Errorf("%q: %q, want %q", key, got, want)
		}
	}
}
