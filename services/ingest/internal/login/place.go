package login

import "time"

// place is where requests of one kind come from.
type place struct{ action, address string }

// tally is what is remembered of a place.
type tally struct {
	place
	// since is when its window began, more how many requests came after the one that was recorded.
	since time.Time
	more  int
	// seen is larger the later the place was seen last.
	seen uint64
}

// places remembers the MaxPlaces that were seen last.
type places struct {
	known map[place]*tally
	seen  uint64
}

func newPlaces() *places {
	return &places{known: make(map[place]*tally, MaxPlaces)}
}

// find gives what is remembered of a place that is seen now, nil for nothing.
func (p *places) find(at place) *tally {
	known := p.known[at]
	if known != nil {
		p.seen++
		known.seen = p.seen
	}
	return known
}

// put begins a window of a place. Where that is one too many, the one that was not seen for longest is forgotten, and returned.
func (p *places) put(at place, since time.Time) (forgotten *tally) {
	if known := p.find(at); known != nil {
		known.since, known.more = since, 0
		return nil
	}
	if len(p.known) >= MaxPlaces {
		// New places are rare: who is denied has few of them in a window.
		for _, known := range p.known {
			if forgotten == nil || known.seen < forgotten.seen {
				forgotten = known
			}
		}
		delete(p.known, forgotten.place)
	}
	p.seen++
	p.known[at] = &tally{place: at, since: since, seen: p.seen}
	return forgotten
}

// drop forgets the places for which over says so.
func (p *places) drop(over func(known *tally) bool) {
	for at, known := range p.known {
		if over(known) {
			delete(p.known, at)
		}
	}
}
