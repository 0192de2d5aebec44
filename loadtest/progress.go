package loadtest

import "time"

// Progress is how a run stands.
type Progress struct {
	Elapsed        time.Duration
	Total          int // pulls that there are
	Due            int // of those, begun
	Running        int
	Done           int // ended, in whichever way
	Failed         int
	P50, P99       time.Duration // of the waits so far, of pulls that went well
	Received       int64         // bytes
	BytesPerSecond float64       // over the last second or so
	ETA            time.Duration // until the last pull's end, by the rate of late; 0 if there is nothing to go by
}

const (
	// progressEvery is how often Progress is called: often enough for a number that
	// moves, seldom enough not to show in the figures.
	progressEvery = 200 * time.Millisecond

	// rateOver is how many of those a rate is taken over.
	rateOver = 5
)

// report calls Progress until ended, and once more.
func (r *run) report(ended <-chan struct{}) {
	if r.storm.Progress == nil {
		return
	}
	ticker := time.NewTicker(progressEvery)
	defer ticker.Stop()
	var past []Progress
	for {
		over := false
		select {
		case <-ticker.C:
		case <-ended:
			over = true
		}
		answer := make(chan Progress, 1)
		r.rec.ask <- answer
		p := <-answer
		p.Elapsed = time.Since(r.began)
		p.Total = len(r.pulls)
		p.Running = int(r.running.Load())
		p.Due = int(r.due.Load()) // last: those that run are among them
		p.Received = r.received.Load()
		if len(past) > rateOver {
			past = past[1:]
		}
		from := Progress{}
		if len(past) > 0 {
			from = past[0]
		}
		past = append(past, p)
		p.BytesPerSecond = rate(float64(p.Received-from.Received), p.Elapsed-from.Elapsed)
		p.ETA = r.eta(p)
		r.storm.Progress(p)
		if over {
			return
		}
	}
}

// eta goes by how many pulls have ended so far; before the first has, by nothing.
func (r *run) eta(p Progress) time.Duration {
	if p.Done == 0 {
		return 0
	}
	left := float64(p.Elapsed) / float64(p.Done) * float64(p.Total-p.Done)
	return time.Duration(left)
}

func rate(n float64, over time.Duration) float64 {
	if over <= 0 {
		return 0
	}
	return n / over.Seconds()
}
