package main

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
)

// printSkipped lists the tests of a run that need something that is not
// here, grouped by what they need. With nothing skipped it prints nothing, so
// that the run ends with go test's own lines.
func printSkipped(file string) error {
	f, err := os.Open(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()

	tests := map[string][]string{} // by what is missing and why
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if field := strings.SplitN(lines.Text(), "\t", 3); len(field) == 3 {
			key := field[1] + ": " + field[2]
			tests[key] = append(tests[key], field[0])
		}
	}
	if len(tests) == 0 {
		return nil
	}
	fmt.Println("\nSkipped, because something is missing:")
	keys := make([]string, 0, len(tests))
	for key := range tests {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	for _, key := range keys {
		fmt.Println("  " + key)
		slices.Sort(tests[key])
		for _, test := range slices.Compact(tests[key]) {
			fmt.Println("      " + test)
		}
	}
	return nil
}
