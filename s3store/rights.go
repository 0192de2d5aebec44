package s3store

import (
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"sync"
	"time"
)

// A Verdict is what is known of one ability of a store.
type Verdict string

// The verdicts. The zero value is Unknown: not tried yet, or tried in vain.
const (
	Unknown Verdict = ""
	Yes     Verdict = "yes"
	No      Verdict = "no"
)

// Status is how the bucket stands, for people and for readiness reports.
type Status struct {
	Reachable    bool      `json:"reachable"`           // the last exchange had an answer, or there was none yet
	Resting      bool      `json:"resting"`             // calls fail at once, with ErrUnavailable
	Failures     int       `json:"failures"`            // in a row
	Since        time.Time `json:"since,omitzero"`      // of the first of them
	LastError    string    `json:"lastError,omitempty"` // the last failure, also when it is over
	LastErrorAt  time.Time `json:"lastErrorAt,omitzero"`
	LastAnswerAt time.Time `json:"lastAnswerAt,omitzero"`

	Writable            Verdict `json:"writable,omitempty"`
	Listable            Verdict `json:"listable,omitempty"`            // No: lists of tags and repositories are refused
	ConditionalPut      Verdict `json:"conditionalPut,omitempty"`      // of several that create one object exactly one succeeds
	ConditionalComplete Verdict `json:"conditionalComplete,omitempty"` // the same of objects sent in parts
	Refusal             string  `json:"refusal,omitempty"`             // what the bucket said when it refused to be written, or read
}

// Status returns what is known now. It asks nobody.
func (s *Store) Status() Status {
	s.health.mu.Lock()
	st := Status{Reachable: s.health.failures == 0, Resting: s.health.open, Failures: s.health.failures,
		LastErrorAt: s.health.at, LastAnswerAt: s.health.answered}
	if s.health.failures > 0 {
		st.Since = s.health.since
	}
	if s.health.err != nil {
		st.LastError = s.health.err.Error()
	}
	s.health.mu.Unlock()
	s.rights.mu.Lock()
	defer s.rights.mu.Unlock()
	st.Writable, st.Listable, st.ConditionalPut, st.ConditionalComplete = s.rights.write, s.rights.list, s.rights.put, s.rights.complete
	st.Refusal = s.rights.refusal
	return st
}

// rights is what the bucket lets this host do, as far as it was found out by the
// probe or by a call that was refused.
type rights struct {
	changed chan struct{} // has one element after a refused write
	wanted  chan struct{} // has one after WantToWrite

	mu                         sync.Mutex // guards the rest
	write, list, put, complete Verdict
	hidesMisses                bool // a 403 on reading may mean that there is nothing
	refusal                    string
}

// writable returns the error for a write that need not be tried.
func (r *rights) writable() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.write == No {
		return ErrReadOnly
	}
	return nil
}

// ReadOnly reports whether the bucket refused to be written by this host when it was
// last tried: writes are refused here then, and nobody is asked. The probe tries
// again every ten minutes, and sooner after WantToWrite.
func (s *Store) ReadOnly() bool { return s.rights.writable() != nil }

// creates reports whether writes should carry If-None-Match. Only a store that
// said that it knows no such thing is spared it.
func (r *rights) creates() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.put != No
}

// refused remembers a bucket that may only be read. It is a normal case, the
// production role of many teams: said once, then writes are refused here. The
// probe tries again from time to time, in case it was a mistake that was mended.
func (s *Store) refused(err error) error {
	if !errors.Is(err, fs.ErrPermission) || errors.Is(err, ErrReadOnly) {
		return err
	}
	if badCredentials(err) {
		return s.stranger(err)
	}
	s.rights.mu.Lock()
	first := s.rights.write != No
	s.rights.write, s.rights.refusal = No, err.Error()
	s.rights.mu.Unlock()
	if first {
		s.log.Warn("the bucket may not be written by this host; it is read only from here on", "err", err)
		select {
		case s.rights.changed <- struct{}{}:
		default:
		}
	}
	return fmt.Errorf("%w: %w", ErrReadOnly, err)
}

// stranger remembers a bucket that does not know who this host is. That is not its
// word on what the host may do: somebody will mend the credentials, and then what
// waits is written.
func (s *Store) stranger(err error) error {
	s.rights.mu.Lock()
	first := s.rights.refusal == ""
	s.rights.refusal = err.Error()
	s.rights.mu.Unlock()
	if first {
		s.log.Warn("the bucket refuses the credentials", "err", err)
	}
	return refusedCredentials{err}
}

// accepted forgets what the bucket said when it refused, after a write.
func (r *rights) accepted() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.refusal = ""
}

// refusedCredentials is a refusal that is no answer: it cannot be matched as
// fs.ErrPermission.
type refusedCredentials struct{ cause error }

func (r refusedCredentials) Error() string   { return r.cause.Error() }
func (r refusedCredentials) Temporary() bool { return true }

// asMiss turns a refusal into a miss where the bucket gives the one for the other:
// S3 does not tell callers without s3:ListBucket what is not there.
func (s *Store) asMiss(err error) error {
	if badCredentials(err) {
		s.stranger(err)
		return err
	}
	if !errors.Is(err, fs.ErrPermission) {
		return err
	}
	s.rights.mu.Lock()
	defer s.rights.mu.Unlock()
	if s.rights.hidesMisses {
		return fmt.Errorf("%w: %v", fs.ErrNotExist, err)
	}
	return err
}

// badCredentials tells a refusal of who asks from one of what is asked. Stores
// agree on these codes, and a wrong guess costs only the wording: a refusal is not
// served as an answer either way.
func badCredentials(err error) bool {
	e, ok := errors.AsType[*Error](err)
	if !ok {
		return false
	}
	switch e.Code {
	case "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken", "RequestTimeTooSkewed", "AuthorizationHeaderMalformed":
		return true
	}
	return e.Status == http.StatusUnauthorized
}
