package main

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/docker/go-units"
)

// A size is an amount of disk as a person writes it: bytes ("50GiB", "64MiB",
// "1000000"), or a share of the disk that it lies on ("80%").
type size struct {
	bytes   int64
	percent float64 // of the disk; used if bytes is 0
}

// parseSize reads s. KiB, MiB, GiB and TiB are powers of 1024; kB, MB, GB and TB
// of 1000.
func parseSize(s string) (size, error) {
	if share, ok := strings.CutSuffix(s, "%"); ok {
		p, err := strconv.ParseFloat(strings.TrimSpace(share), 64)
		if err != nil || !(p > 0 && p <= 100) {
			return size{}, fmt.Errorf("%q is not a share of the disk; write one between 1%% and 100%%", s)
		}
		return size{percent: p}, nil
	}
	parse := units.FromHumanSize
	if strings.ContainsAny(s, "iI") {
		parse = units.RAMInBytes
	}
	n, err := parse(s)
	if err != nil || n < 0 {
		return size{}, fmt.Errorf("%q is not a size; write bytes with a unit (50GiB) or a share of the disk (80%%)", s)
	}
	return size{bytes: n}, nil
}

// of returns the size in bytes on a disk of total bytes.
func (s size) of(total int64) int64 {
	if s.percent > 0 {
		return int64(float64(total) / 100 * s.percent)
	}
	return s.bytes
}

// String returns what parseSize reads back as the same size.
func (s size) String() string {
	if s.percent > 0 {
		return strconv.FormatFloat(s.percent, 'f', -1, 64) + "%"
	}
	for _, u := range []struct {
		name string
		n    int64
	}{{"TiB", units.TiB}, {"GiB", units.GiB}, {"MiB", units.MiB}, {"KiB", units.KiB}} {
		if s.bytes >= u.n && s.bytes%u.n == 0 {
			return strconv.FormatInt(s.bytes/u.n, 10) + u.name
		}
	}
	return strconv.FormatInt(s.bytes, 10)
}
