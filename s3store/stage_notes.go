package s3store

import (
	"context"
	"errors"
	"io/fs"
	"strings"
	"time"
)

// A staged is what a stage may have left in the bucket. The zero value is nothing. It is
// kept as notes, which are only ever added to:
//
//	stage <key> <id>     an upload to a key of its own
//	staged <key>         it has become an object
//	copy <key> <id>      an upload to the blob's key
//	copied <key>         it has become the blob
type staged struct {
	key, id         string
	copyKey, copyID string
}

func (st staged) begun() string  { return "stage " + st.key + " " + st.id }
func (st staged) whole() string  { return "staged " + st.key }
func (st staged) copies() string { return "copy " + st.copyKey + " " + st.copyID }
func (st staged) copied() string { return "copied " + st.copyKey }

// readStaged is what the notes tell of. They come from a file that a crash may have left
// in any state, and what they name is removed: no key counts that is not one of those.
func readStaged(notes []string) (st staged) {
	for _, line := range notes {
		what, rest, _ := strings.Cut(line, " ")
		key, id, _ := strings.Cut(rest, " ")
		switch {
		case what == "stage" && isStageKey(key):
			st = staged{key: key, id: id}
		case what == "staged" && key == st.key:
			st.id = ""
		case what == "copy" && strings.HasPrefix(key, blobsRoot):
			st.copyKey, st.copyID = key, id
		case what == "copied" && key == st.copyKey:
			st.copyID = ""
		}
	}
	return st
}

// removeStaged removes it: what is not there is success. The object goes last, since an
// upload of which no answer came may have become one.
func (s *Store) removeStaged(ctx context.Context, st staged) error {
	var errs []error
	if st.copyID != "" {
		errs = append(errs, s.drop(ctx, st.copyKey, st.copyID))
	}
	if st.id != "" {
		errs = append(errs, s.drop(ctx, st.key, st.id))
	}
	err := s.exchange(ctx, answerLimit, func(ctx context.Context) error { return s.bucket.Delete(ctx, st.key) })
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	if err != nil && ctx.Err() == nil && !outage(err) && !errors.Is(err, ErrUnavailable) {
		s.staging.spare(stagingRefused, time.Now())
		s.log.Warn("the bucket does not let this host remove what a push left under _uploads; large pushes are sent in another way from here on", "key", st.key, "err", err)
	}
	return errors.Join(append(errs, err)...)
}
