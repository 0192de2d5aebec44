package main

import (
	"fmt"
	"io"
	"os"
	"strings"
)

// maxSecret bounds a password file in bytes. The longest real ones are tokens of
// a few KiB.
const maxSecret = 64 << 10

// readSecret returns what a file holds, without the newline that editors leave.
func readSecret(name string) (string, error) {
	f, err := os.Open(name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxSecret+1))
	if err != nil {
		return "", err
	}
	if len(text) > maxSecret {
		return "", fmt.Errorf("%s is larger than %d bytes; is it the right file?", name, maxSecret)
	}
	secret := strings.TrimRight(string(text), "\r\n")
	if secret == "" {
		return "", fmt.Errorf("%s is empty", name)
	}
	return secret, nil
}
