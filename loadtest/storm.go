package loadtest

import "hostlocal/manifest"

// A Target is one registry that clients pull from.
type Target struct {
	URL       string // http://127.0.0.1:5000, no slash at the end
	Namespace string // sent as ?ns=, as containerd does for a mirror; "" sends none
	Prefix    string // put before each repository's name: "hub.test/"
}

// A Job is one pull that is due.
type Job struct {
	Repo   string
	Tag    string          // or "" and
	Digest manifest.Digest // what is pulled by digest
	Daemon int             // index of the target
}
