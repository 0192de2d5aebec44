package main

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A value is one setting's text form. Set refuses what it cannot use with an
// error that says what to write instead.
type value interface {
	Set(string) error
	String() string
}

// A field is a key of the configuration, bound to where its value is kept.
type field struct {
	key    string // dotted, as in "cache.size"
	value  value
	secret bool // config show hides it
}

// lookup returns the field with that key, or nil.
func lookup(fields []field, key string) *field {
	for i := range fields {
		if fields[i].key == key {
			return &fields[i]
		}
	}
	return nil
}

// A text is any string but the empty one.
type text struct{ to *string }

func (v text) String() string { return *v.to }
func (v text) Set(s string) error {
	if s == "" {
		return errors.New("is empty; write a value or remove the key")
	}
	*v.to = s
	return nil
}

// A word is any string; the empty one says "none".
type word struct{ to *string }

func (v word) String() string     { return *v.to }
func (v word) Set(s string) error { *v.to = s; return nil }

// An oneOf is a word of a short list.
type oneOf struct {
	to    *string
	words []string
}

func (v oneOf) String() string { return *v.to }
func (v oneOf) Set(s string) error {
	if !slices.Contains(v.words, s) {
		return fmt.Errorf("%q is not known here; write %s", s, strings.Join(v.words, " or "))
	}
	*v.to = s
	return nil
}

// A list is a sequence in the file, a single value standing for a list of one,
// and words between commas in the environment.
type list struct{ to *[]string }

func (v list) String() string { return strings.Join(*v.to, ",") }
func (v list) Set(s string) error {
	*v.to = nil
	for word := range strings.SplitSeq(s, ",") {
		if word = strings.TrimSpace(word); word != "" {
			*v.to = append(*v.to, word)
		}
	}
	return nil
}

// A truth is true or false.
type truth struct{ to *bool }

func (v truth) String() string { return strconv.FormatBool(*v.to) }
func (v truth) Set(s string) error {
	switch strings.ToLower(s) {
	case "true", "yes", "on", "1":
		*v.to = true
	case "false", "no", "off", "0":
		*v.to = false
	default:
		return fmt.Errorf("%q is neither true nor false", s)
	}
	return nil
}

// A disk is a size.
type disk struct{ to *size }

func (v disk) String() string { return v.to.String() }
func (v disk) Set(s string) error {
	n, err := parseSize(s)
	if err == nil {
		*v.to = n
	}
	return err
}

// A count is a whole number from 1 to max; 0 is one that was not said.
type count struct {
	to  *int
	max int
}

func (v count) String() string {
	if *v.to == 0 {
		return ""
	}
	return strconv.Itoa(*v.to)
}
func (v count) Set(s string) error {
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 || n > v.max {
		return fmt.Errorf("%q is not a number from 1 to %d", s, v.max)
	}
	*v.to = n
	return nil
}

// A span is a length of time, not negative.
type span struct{ to *time.Duration }

func (v span) String() string { return v.to.String() }
func (v span) Set(s string) error {
	d, err := time.ParseDuration(s)
	if err != nil || d < 0 {
		return fmt.Errorf("%q is not a time; write a number with a unit (30s, 1m, 24h)", s)
	}
	*v.to = d
	return nil
}
