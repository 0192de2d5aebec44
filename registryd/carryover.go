package registryd

import "slices"

// takeOver enters what the last process did not get done, but for what this one is
// not to write. Nothing of it is begun before resume: a blob may have to wait for its
// fill to be resumed.
func (w *writer) takeOver() error {
	if w.file == nil {
		return nil
	}
	list, notes, err := w.file.load()
	if err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, x := range list {
		if w.mirror {
			w.enter(x)
		}
	}
	for d, lines := range notes {
		w.uploads.set(d, lines)
	}
	return nil
}

// resume begins with what was taken over. What is left of uploads that nobody goes
// on with is removed.
func (w *writer) resume() {
	w.mu.Lock()
	for _, j := range w.jobs {
		if !j.running && !slices.Contains(w.queue, j) {
			w.queue = append(w.queue, j)
		}
	}
	slices.SortFunc(w.queue, func(a, b *job) int { return int(a.serial - b.serial) })
	for d := range w.uploads.notes {
		w.abandon(d)
	}
	w.dispatch()
	w.mu.Unlock()
	w.file.flush()
}

// close keeps what is not done, once nothing runs any more.
func (w *writer) close() {
	w.wake.Stop()
	w.file.flush()
	w.file.tend()
}

// records are what is not done, in the order of its coming, for the file. The caller
// holds mu.
func (w *writer) records() (list []record) {
	jobs := make([]*job, 0, len(w.jobs))
	for _, j := range w.jobs {
		jobs = append(jobs, j)
	}
	slices.SortFunc(jobs, func(a, b *job) int { return int(a.serial - b.serial) })
	for _, j := range jobs {
		if !j.abandon {
			list = append(list, record{write: j.write})
		}
	}
	for d, lines := range w.uploads.notes {
		for _, line := range lines {
			list = append(list, record{write: write{Digest: d}, Note: line})
		}
	}
	return list
}

// idle reports whether nothing is owed. The caller holds mu.
func (w *writer) idle() bool { return len(w.jobs) == 0 && len(w.uploads.notes) == 0 }
