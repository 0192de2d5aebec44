package target

import "errors"

// What keeps a contender from being measured. Each is told from the others,
// because what a person does next differs.
var (
	ErrUnknown     = errors.New("unknown target")
	ErrRemote      = errors.New("not on this host") // and nobody allowed that
	ErrUnreachable = errors.New("does not answer")  // a URL
	ErrDied        = errors.New("ended by itself")  // in the middle
	ErrUnable      = errors.New("cannot do this")   // the kind, with this scenario
)
