package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// usable returns an error if dir cannot be written to, and cannot be made so by
// creating it. It changes nothing, so `config check` may ask; a disk that is full
// is no reason to refuse, since the daemon then passes bytes through.
func usable(dir string) error {
	return access(dir, unix.W_OK|unix.X_OK, "written to")
}

// readable is usable for a store, which a host may be allowed only to read: one
// that exists need not be writable.
func readable(dir string) error {
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return usable(dir)
	}
	return access(dir, unix.R_OK|unix.X_OK, "read")
}

func access(dir string, mode uint32, verb string) error {
	at, err := existing(dir)
	if err != nil {
		return err
	}
	if info, err := os.Stat(at); err != nil {
		return err
	} else if !info.IsDir() {
		return fmt.Errorf("%s is a file; name a folder", at)
	}
	err = unix.Access(at, mode)
	switch {
	case err == nil:
		return nil
	case at != dir:
		return fmt.Errorf("%s does not exist and cannot be created in %s: %w; create it, or run as a user who may", dir, at, err)
	default:
		return fmt.Errorf("%s cannot be %s: %w; give this user the right to it (uid %d)", dir, verb, err, os.Getuid())
	}
}

// existing returns the nearest folder on the way to dir that is there.
func existing(dir string) (string, error) {
	for at := filepath.Clean(dir); ; at = filepath.Dir(at) {
		_, err := os.Stat(at)
		if err == nil {
			return at, nil
		}
		if !errors.Is(err, fs.ErrNotExist) || at == filepath.Dir(at) {
			return "", err
		}
	}
}
