package loadtest

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/docker/go-units"
)

// maxSize bounds one written size: a pebibyte, above any disk this runs on, and
// far enough below an int64's end that sums of a few do not overflow.
const maxSize = 1 << 50

// ParseSize reads a number of bytes as people write it: "24MiB", "1.5GB", "512".
// KiB, MiB, GiB are powers of 1024; kB, MB, GB of 1000.
func ParseSize(s string) (Size, error) {
	parse := units.FromHumanSize
	if strings.ContainsAny(s, "iI") {
		parse = units.RAMInBytes
	}
	n, err := parse(s)
	if err != nil || n < 0 || n > maxSize {
		return 0, fmt.Errorf("%q is not a size; write bytes with a unit, such as 24MiB", s)
	}
	return Size(n), nil
}

// String returns what ParseSize reads back as the same size.
func (s Size) String() string {
	for _, u := range []struct {
		name string
		n    Size
	}{{"TiB", units.TiB}, {"GiB", units.GiB}, {"MiB", units.MiB}, {"KiB", units.KiB}} {
		if s >= u.n && s%u.n == 0 {
			return strconv.FormatInt(int64(s/u.n), 10) + u.name
		}
	}
	return strconv.FormatInt(int64(s), 10)
}
