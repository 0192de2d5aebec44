package main

import (
	"os"
	"strings"
	"testing"
)

// TestReadmeNamesEveryKeyAndCommand keeps the reference from falling behind.
func TestReadmeNamesEveryKeyAndCommand(t *testing.T) {
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	wants := func(word string) {
		if !strings.Contains(string(readme), "`"+word) {
			t.Errorf("README.md does not mention `%s", word)
		}
	}
	for _, fields := range [][]field{new(config).fields(), new(upstreamConfig).fields(), new(tagConfig).fields(), new(webhookConfig).fields()} {
		for _, f := range fields {
			wants(f.key)
		}
	}
	for _, cmd := range command().Commands() {
		if cmd.Name() != "help" {
			wants("registryd " + cmd.Name())
		}
	}
}

// TestReadmeExampleIsGood reads the example as a daemon would.
func TestReadmeExampleIsGood(t *testing.T) {
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(readme), "```yaml\n")
	example, _, ok := strings.Cut(rest, "```")
	if !ok {
		t.Fatal("README.md has no example in YAML")
	}
	tt := newTester(t)
	var p problems
	c := defaults()
	if err := c.readFile(tt.file(example), &p); err != nil {
		t.Fatal(err)
	}
	if err := p.err(); err != nil { // its files need not exist here
		t.Error(err)
	}
}
