package main

import (
	"fmt"
	"net/http"
	"os"
	"regexp"
	"strings"
)

// mortalMain is the program mortal serve --config FILE: a registry that ends with
// the first manifest that it is asked for.
func mortalMain() {
	if len(os.Args) != 4 {
		os.Exit(2) // it is asked for its version
	}
	text, err := os.ReadFile(os.Args[3])
	if err != nil {
		panic(err)
	}
	listen := string(regexp.MustCompile(`listen: (.+)`).FindSubmatch(text)[1])
	panic(http.ListenAndServe(listen, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.URL.Path, "/manifests/") {
			fmt.Fprintln(os.Stderr, "mortal: struck by lightning")
			os.Exit(4)
		}
	})))
}
