package child

import (
	"fmt"
	"strings"
	"testing"
)

func TestTailKeepsTheEnd(t *testing.T) {
	l := &tail{}
	for i := range 10_000 {
		fmt.Fprintf(l, "line %d\n", i)
	}
	if got := l.String(); len(got) > 2*tailBytes || !strings.HasSuffix(got, "line 9999") {
		t.Errorf("%d bytes that end with %q", len(got), got[len(got)-20:])
	}
}
