package s3store

import "time"

// Observe is told of every exchange when its answer's header is there: the
// operation (the method of Bucket in snake case), the HTTP status (0 if none
// came), and how long that took. It is called from several goroutines at once and
// must be quick.
type Observe func(op string, status int, d time.Duration)
