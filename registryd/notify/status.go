package notify

import (
	"fmt"
	"time"
)

// Status is how one endpoint stands.
type Status struct {
	Name    string    `json:"name"`
	Waiting int       `json:"waiting"`           // events
	Sent    int64     `json:"sent"`              // since the start
	Refused int64     `json:"refused"`           // given up since the start: the endpoint does not take them
	Dropped int64     `json:"dropped"`           // pushed out since the start: more waited than the queue holds
	Trouble string    `json:"trouble,omitempty"` // the last failure, until an event is taken
	Since   time.Time `json:"since,omitzero"`    // of the trouble
}

// Status returns how the endpoints stand, in the order of Options, from memory alone.
func (n *Notifier) Status() []Status {
	list := make([]Status, 0, len(n.senders))
	for _, s := range n.senders {
		list = append(list, s.status())
	}
	return list
}

func (s *sender) status() Status {
	c := s.queue.count(s.place)
	s.mu.Lock()
	defer s.mu.Unlock()
	st := Status{Name: s.endpoint.Name, Waiting: c.waiting, Sent: s.sent, Refused: s.refused, Dropped: c.dropped}
	if s.trouble != nil {
		st.Trouble, st.Since = s.trouble.Error(), s.since
	}
	return st
}

// Counts says in words what became of the events.
func (s Status) Counts() string {
	text := fmt.Sprintf("%d waiting, %d sent", s.Waiting, s.Sent)
	if s.Refused > 0 {
		text += fmt.Sprintf(", %d refused", s.Refused)
	}
	if s.Dropped > 0 {
		text += fmt.Sprintf(", %d dropped", s.Dropped)
	}
	return text
}

// Waiting returns how many events wait for the endpoint in the place i of Options.
func (n *Notifier) Waiting(i int) int { return n.queue.count(i).waiting }
