package queue

import (
	"context"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
)

const (
	// maxBytes bounds what the requests that wait in memory hold. Of those beyond it only the place is kept.
	maxBytes = 32 << 20
	// overhead is what a request in memory holds besides its text.
	overhead = 512
	// maxRetries is how many requests of a line may wait for another try while others of it go on.
	maxRetries = 64
)

// request is one that waits. Without its content only its place is known, and it is read again when its turn comes.
type request struct {
	sequence uint64
	content  *content
}

type content struct {
	subject string
	header  nats.Header
	data    []byte
	stored  time.Time
}

func (c *content) size() int {
	size := overhead + len(c.subject) + len(c.data)
	for name, values := range c.header {
		size += len(name)
		for _, value := range values {
			size += len(value)
		}
	}
	return size
}

// line is the requests of one customer, in their order.
type line struct {
	customer string
	waiting  []request
	// retries are those that could not be dealt with, in the order in which they are due.
	retries []retry
	// under are those handed out.
	under map[uint64]struct{}
	// inRing tells that its turn will come.
	inRing bool
	// read is the last sequence of the line, ended that some have ended that were not removed yet.
	read  uint64
	ended bool
}

type retry struct {
	request
	due time.Time
}

// first is the lowest sequence of the line that has not ended; one more than the last when all have.
func (l *line) first() uint64 {
	first := l.read + 1
	if len(l.waiting) > 0 {
		first = l.waiting[0].sequence
	}
	for i := range l.retries {
		first = min(first, l.retries[i].sequence)
	}
	for sequence := range l.under {
		first = min(first, sequence)
	}
	return first
}

func (l *line) ready(now time.Time) bool {
	if len(l.retries) > 0 && !now.Before(l.retries[0].due) {
		return true
	}
	return len(l.waiting) > 0 && len(l.retries) < maxRetries
}

func (l *line) pop(now time.Time) request {
	var next request
	if len(l.retries) > 0 && !now.Before(l.retries[0].due) {
		next, l.retries = l.retries[0].request, l.retries[1:]
	} else {
		next, l.waiting[0].content = l.waiting[0], nil
		l.waiting = l.waiting[1:]
	}
	l.under[next.sequence] = struct{}{}
	return next
}

// turn is a request whose turn it is.
type turn struct {
	request
	line *line
}

// lines are the customers' requests that were read and have not ended. Customers take turns: whoever comes new is behind one request of
// each other customer, not behind all of theirs.
type lines struct {
	maxBytes int

	mu    sync.Mutex
	lines map[string]*line
	// ring are the lines with a request that is ready, the next one first.
	ring []*line
	// retrying are the lines with retries.
	retrying map[*line]struct{}
	// changed gets a token when a request has become ready.
	changed chan struct{}
	// read is the last sequence that was read; count and bytes are those of the requests that have not ended.
	read  uint64
	count int
	bytes int
}

func newLines(limit int) *lines {
	return &lines{
		maxBytes: limit, lines: make(map[string]*line), retrying: make(map[*line]struct{}), changed: make(chan struct{}, 1),
	}
}

// add puts a request that was read at the end of its customer's line.
func (l *lines) add(customer string, sequence uint64, found *content) {
	l.mu.Lock()
	defer l.mu.Unlock()
	own := l.lines[customer]
	if own == nil {
		own = &line{customer: customer, under: make(map[uint64]struct{})}
		l.lines[customer] = own
	}
	if size := found.size(); l.bytes+size <= l.maxBytes {
		l.bytes += size
	} else {
		found = nil
	}
	own.waiting = append(own.waiting, request{sequence: sequence, content: found})
	own.read, l.read = sequence, sequence
	l.count++
	l.enter(own)
}

func (l *lines) enter(own *line) {
	if own.inRing {
		return
	}
	own.inRing = true
	l.ring = append(l.ring, own)
	select {
	case l.changed <- struct{}{}:
	default:
	}
}

// take hands out at most n requests whose turn it is. Each must come back to end or to again.
func (l *lines) take(n int, now time.Time) []turn {
	l.mu.Lock()
	defer l.mu.Unlock()
	for own := range l.retrying {
		if own.ready(now) {
			l.enter(own)
		}
	}
	turns := make([]turn, 0, min(n, l.count))
	for len(turns) < n && len(l.ring) > 0 {
		own := l.ring[0]
		l.ring = l.ring[1:]
		if !own.ready(now) {
			own.inRing = false
			continue
		}
		next := own.pop(now)
		if next.content != nil {
			// From here on it is part of a batch, which is bounded by itself.
			l.bytes -= next.content.size()
		}
		turns = append(turns, turn{request: next, line: own})
		if len(own.retries) == 0 {
			delete(l.retrying, own)
		}
		if own.ready(now) {
			l.ring = append(l.ring, own)
		} else {
			own.inRing = false
		}
	}
	return turns
}

// end is told that a request has been dealt with for good.
func (l *lines) end(ended turn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(ended.line.under, ended.sequence)
	ended.line.ended = true
	l.count--
}

// again is told that a request is to be tried once more when it is due. Only its place is kept.
func (l *lines) again(failed turn, due time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(failed.line.under, failed.sequence)
	failed.line.retries = append(failed.line.retries, retry{request: request{sequence: failed.sequence}, due: due})
	l.retrying[failed.line] = struct{}{}
}

// wait returns when a request has become ready, after d at the latest.
func (l *lines) wait(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	case <-l.changed:
	}
}

func (l *lines) size() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.count
}

// removal is what may be removed from the stream: every request before floor, and those of each customer before another sequence.
type removal struct {
	floor     uint64
	customers []reach
}

type reach struct {
	customer string
	before   uint64
}

// removable tells what has ended since it was last called, in at most limit customers' lines besides the floor, and forgets lines
// that are empty.
func (l *lines) removable(limit int) removal {
	l.mu.Lock()
	defer l.mu.Unlock()
	floor, ended := l.read+1, false
	firsts := make(map[*line]uint64, len(l.lines))
	for _, own := range l.lines {
		first := own.first()
		firsts[own] = first
		ended = ended || own.ended
		if first <= own.read {
			floor = min(floor, first)
		}
	}
	if !ended {
		return removal{}
	}
	found := removal{floor: floor}
	for own, first := range firsts {
		switch {
		case first <= floor || own.read < floor:
			own.ended = false
		case own.ended && own.customer != "" && len(found.customers) < limit:
			found.customers = append(found.customers, reach{customer: own.customer, before: first})
			own.ended = false
		}
		if first > own.read && !own.ended && !own.inRing {
			delete(l.lines, own.customer)
		}
	}
	return found
}
