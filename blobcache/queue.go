package blobcache

import (
	"math"

	"github.com/hashicorp/golang-lru/v2/simplelru"
)

// The queues by their numbers, in the order in which they are emptied when nothing
// else decides. Entries in no queue have number 0.
const (
	protectedQueue = iota + 1
	probationQueue
	smallQueue
	afterQueues
)

// A queue is a FIFO of entries with the sum of their bytes. Its order is
// simplelru's, whose count bound is put out of reach: what is evicted when is
// decided by bytes, in the index. An entry is its own key there and has no value,
// so that a link of the queue takes 64 bytes and no more.
type queue struct {
	number int
	lru    *simplelru.LRU[*entry, struct{}]
	bytes  int64
}

func newQueue(number int) *queue {
	lru, err := simplelru.NewLRU[*entry, struct{}](math.MaxInt, nil)
	if err != nil {
		panic(err) // only a size below one is refused
	}
	return &queue{number: number, lru: lru}
}

func (q *queue) push(e *entry) {
	e.clear(flagHot)
	e.enqueue(q.number)
	q.lru.Add(e, struct{}{})
	q.bytes += e.blocks()
}

func (q *queue) remove(e *entry) {
	if q.lru.Remove(e) {
		q.bytes -= e.blocks()
	}
	e.enqueue(0)
}

// oldest takes the oldest entry that nobody holds out of the queue. Entries that
// are held go to the young end as they are met; those that were looked at since
// they were queued go to the young end of next.
func (q *queue) oldest(next *queue) *entry {
	for range q.lru.Len() {
		e, _, _ := q.lru.GetOldest()
		q.remove(e)
		switch {
		case e.holds > 0:
			q.push(e)
		case e.is(flagHot):
			next.push(e)
		default:
			return e
		}
	}
	return nil
}
