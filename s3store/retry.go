package s3store

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"
)

const (
	// readLimit bounds a read up to its answer, retries included: the deadlines of
	// those who ask are 2 to 10 s.
	readLimit = 5 * time.Second
	// answerLimit bounds one attempt of it, so that a request that was lost is
	// sent a second time within readLimit.
	answerLimit = 3 * time.Second
	// writeLimit bounds one attempt of a write, beside what its size explains at
	// slowestWrite.
	writeLimit   = 15 * time.Second
	slowestWrite = 256 << 10 // bytes a second

	maxAttempts = 3
	// backOff is the longest wait before the first retry; it doubles. The wait is
	// drawn from the upper half.
	backOff = 100 * time.Millisecond
	// maxWait is the longest Retry-After that is waited for. A store that asks for
	// more has no time for this call.
	maxWait = 2 * time.Second
)

var errSilent = errors.New("no answer in time")

// maxRetryTokens and retryEarned bound the retries of all calls together: twenty
// at once, then one for ten calls that went well. When a whole bucket fails, that
// keeps the retries from doubling its load just then.
const (
	maxRetryTokens = 20
	retryEarned    = 0.1
)

type retryBudget struct {
	mu     sync.Mutex // guards tokens
	tokens float64
}

func (b *retryBudget) take() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.tokens < 1 {
		return false
	}
	b.tokens--
	return true
}

func (b *retryBudget) earn() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.tokens = min(b.tokens+retryEarned, maxRetryTokens)
}

// read makes an exchange that is over when call returns.
func (s *Store) read(ctx context.Context, call func(context.Context) error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, readLimit, errSilent)
	defer cancel()
	return s.exchange(ctx, answerLimit, call)
}

// write makes an exchange that changes the bucket, and knows a bucket that may
// only be read.
func (s *Store) write(ctx context.Context, size int64, call func(context.Context) error) error {
	if err := s.rights.writable(); err != nil {
		return err
	}
	limit := writeLimit + time.Duration(size/slowestWrite)*time.Second
	err := s.exchange(ctx, limit, call)
	if err == nil {
		s.rights.accepted()
	}
	return s.refused(err)
}

// exchange is the one place where calls are retried. It returns the last
// attempt's error.
func (s *Store) exchange(ctx context.Context, limit time.Duration, call func(context.Context) error) error {
	for attempt := 1; ; attempt++ {
		if err := s.health.allow(); err != nil {
			return err
		}
		err := s.attempt(ctx, limit, call)
		if err == nil {
			s.retry.earn()
			return nil
		}
		wait, again := backOffAfter(err, attempt)
		if !again || ctx.Err() != nil || !s.retry.take() {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(wait):
		}
	}
}

// backOffAfter says whether an error may be another attempt's success, and when.
func backOffAfter(err error, attempt int) (time.Duration, bool) {
	e, ok := errors.AsType[*Error](err)
	if !ok || !e.Retry || attempt >= maxAttempts || e.RetryAfter > maxWait {
		return 0, false
	}
	most := backOff << (attempt - 1)
	return max(most/2+rand.N(most/2), e.RetryAfter), true
}

// attempt makes one exchange and tells health how it went.
func (s *Store) attempt(ctx context.Context, limit time.Duration, call func(context.Context) error) error {
	start := time.Now()
	within, cancel := context.WithTimeoutCause(ctx, limit, errSilent)
	defer cancel()
	err := call(within)
	if err != nil && within.Err() != nil && context.Cause(within) == errSilent {
		late := &Error{Op: "exchange", Retry: true, Err: errSilent}
		if e, ok := errors.AsType[*Error](err); ok {
			late.Op, late.Key = e.Op, e.Key
		}
		err = late
	}
	s.judge(ctx, err, time.Since(start))
	return err
}

// judge draws the conclusion from one exchange. What a caller gave up says nothing
// about the bucket, unless it had been silent for longer than its Patience, after
// which somebody else is asked. Nor does an error of what was to be sent.
func (s *Store) judge(ctx context.Context, err error, took time.Duration) {
	gone := ctx.Err() != nil && context.Cause(ctx) != errSilent
	var ofSource sourceError
	switch {
	case errors.As(err, &ofSource):
		return
	case !outage(err):
		if s.health.answer() {
			s.log.Info("the bucket answers again")
		}
		return
	case gone && took < s.Patience():
		return
	}
	opened, news := s.health.fail(err)
	if news {
		s.log.Warn("the bucket does not answer and is left alone for a while", "err", err)
	}
	if opened {
		s.behind(s.lookAgain)
	}
}

// lookAgain asks, in the callers' place, until the bucket answers. How long that
// took counts for its Patience: a bucket that has become slow is left by all who
// have another source, and would never be known as one that answers.
func (s *Store) lookAgain() {
	for {
		select {
		case <-s.ctx.Done():
			return
		case <-time.After(rest):
		}
		start := time.Now()
		err := s.attempt(s.ctx, answerLimit, func(ctx context.Context) error {
			_, err := s.bucket.Stat(ctx, probeRoot+"alive")
			return err
		})
		if !outage(err) {
			s.first.add(time.Since(start))
			return
		}
	}
}
