// Command testdeps brings what the tests run against, and nothing of it into
// go.mod: the pinned Go-made servers, and image layers made of Debian's
// packages. Everything lands in a cache that later runs find again.
//
//	testdeps build [NAME...]   the servers that are not there at their version
//	testdeps layers            the layers for tests with real clients
//	testdeps rootfs [NAME...]  root file systems, with newer clients and with systemd; needs root
//	testdeps which NAME        prints a server's or a tool's path
//	testdeps skipped FILE      prints what a test run skipped, by name
package main

import (
	"fmt"
	"os"

	"hostlocal/cmd/testdeps/need"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "testdeps:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	usage := fmt.Errorf("usage: testdeps build [NAME...] | layers | rootfs [NAME...] | which NAME | skipped FILE")
	if len(args) == 0 {
		return usage
	}
	switch verb, args := args[0], args[1:]; {
	case verb == "build":
		return build(args)
	case verb == "layers" && len(args) == 0:
		return makeLayers()
	case verb == "rootfs":
		return makeRootFSs(args)
	case verb == "which" && len(args) == 1:
		path, err := need.Find(args[0])
		if err == nil {
			fmt.Println(path)
		}
		return err
	case verb == "skipped" && len(args) == 1:
		return printSkipped(args[0])
	}
	return usage
}
