package subs

// Progress is how far a subscription is, for somebody to look at.
type Progress struct {
	Behind     int  // results in memory that it has yet to take
	CatchingUp bool // it reads rows or the log; how much is before it is not known
	Shared     int  // subscriptions, itself included, for which a change is matched and encoded once
}

// Progress may be called beside all else, and also after Close.
func (r *Reader) Progress() Progress {
	g, taken := r.g, r.taken.Load()
	g.mu.Lock()
	defer g.mu.Unlock()
	p := Progress{Shared: len(g.readers), CatchingUp: taken < 0}
	if taken > 0 {
		p.Behind = max(0, int(g.base+int64(g.entries.len())-(taken-1)))
	}
	return p
}

// Trace returns what Options.Trace gave for the last of what was taken since it was called last: nil, mostly. It is for who calls Next.
func (r *Reader) Trace() any {
	t := r.trace
	r.trace = nil
	return t
}

// Trace is that of the present reader.
func (s *Sequence) Trace() any {
	if s.reader == nil {
		return nil
	}
	return s.reader.Trace()
}

// take notes for Progress where the reader is: behind so many entries and one, or, if it is not live, nowhere.
func (r *Reader) take() {
	if r.phase == live {
		r.taken.Store(r.pos + 1)
	} else {
		r.taken.Store(-1)
	}
}
