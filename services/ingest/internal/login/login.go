// Package login has the audit log know who comes in as the operator, and who is not let in. There are no sessions: every request brings its
// key. So the first request with the operator's key from an address is recorded, and then none for a while; a wrong key is recorded at once,
// and further ones from the same address are counted and recorded together. However many come from however many addresses, what is kept and
// what is recorded stays small. What customers do with their own keys costs nothing here.
package login

import (
	"context"
	"sync"
	"time"

	"github.com/rs/zerolog"

	"github.com/galley-engine/galley/pkg/clock"
	"github.com/galley-engine/galley/pkg/lifecycle"
	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/services/ingest/internal/activity"
)

const (
	// Window is how long requests from an address are one login, or one row of denials.
	Window = 15 * time.Minute
	// MaxPlaces is how many addresses are remembered, and how many new ones may be recorded as denied in a window; those beyond are
	// counted together.
	MaxPlaces = 128

	// maxQueued are on their way to the database.
	maxQueued = 64
	maxBatch  = 16
	sweep     = time.Minute
	// lastWords is how long the end may take.
	lastWords = 5 * time.Second
)

// Recorder stores activities.
type Recorder interface {
	Record(ctx context.Context, entries ...activity.Entry) error
}

// Log records logins and denials. Its methods may be called at the same time, and do not wait for the database.
type Log struct {
	recorder Recorder
	clock    clock.Clock
	log      zerolog.Logger
	queue    chan activity.Entry
	denials  denials

	mu sync.Mutex
	// in and denied are apart, so that who is not let in cannot make a login be forgotten.
	in, denied *places
	// left is how many new places may be recorded as denied until the window that began at since is over; others counts the rest.
	left   int
	since  time.Time
	others map[string]int
}

// New makes a Log.
func New(recorder Recorder, now clock.Clock, log zerolog.Logger) *Log {
	return &Log{
		recorder: recorder, clock: now, log: log, queue: make(chan activity.Entry, maxQueued), denials: newDenials(),
		in: newPlaces(), denied: newPlaces(), left: MaxPlaces, since: now(), others: map[string]int{},
	}
}

// Authenticated says that a request came with the operator's key. fingerprint tells that key from an earlier one, and not what it is.
func (l *Log) Authenticated(fingerprint, address, trace string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now, at := l.clock(), place{event.ActionOperatorAuthenticated, fingerprint + " " + address}
	if known := l.in.find(at); known != nil && now.Sub(known.since) < Window {
		return
	}
	operator := event.Actor{Type: "operator", ID: "operator"}
	entry := activity.Entry{
		Action: at.action, ResourceID: operator.ID, Author: activity.Author{Actor: operator, Trace: trace},
		After: map[string]any{"address": address, "fingerprint": fingerprint},
	}
	if l.enqueue(&entry) {
		l.in.put(at, now)
	}
}

// Denied says that a request came with a key that nobody has. action is event.ActionOperatorDenied or event.ActionKeyDenied.
func (l *Log) Denied(action, address, trace string) {
	l.denials.count(action)
	l.mu.Lock()
	defer l.mu.Unlock()
	now, at := l.clock(), place{action, address}
	l.renew(now)
	known := l.denied.find(at)
	switch {
	case known != nil && now.Sub(known.since) < Window:
		known.more++
		return
	case known != nil:
		l.tell(at, known.more+1, known.since, trace)
	case l.left == 0:
		l.others[action]++
		return
	default:
		l.left--
		l.tell(at, 1, now, trace)
	}
	if forgotten := l.denied.put(at, now); forgotten != nil {
		l.others[forgotten.action] += forgotten.more
	}
}

// renew begins a new window, and tells of those who were counted together in the last one.
func (l *Log) renew(now time.Time) {
	if now.Sub(l.since) < Window {
		return
	}
	l.tellOthers()
	l.left, l.since = MaxPlaces, now
}

func (l *Log) tellOthers() {
	others := l.others
	l.others = map[string]int{}
	for action, count := range others {
		if count > 0 {
			l.tell(place{action, ""}, count, l.since, "")
		}
	}
}

// tell records denials since a time. What cannot be recorded now is counted with the others.
func (l *Log) tell(at place, count int, since time.Time, trace string) {
	told := map[string]any{"count": count, "since": since.UTC()}
	if at.address != "" {
		told["address"] = at.address
	}
	resource := "unknown"
	if at.action == event.ActionOperatorDenied {
		resource = "operator"
	}
	entry := activity.Entry{
		Action: at.action, ResourceID: resource, After: told, Outcome: event.StatusFailed,
		Author: activity.Author{Actor: event.Actor{Type: "anonymous", ID: "anonymous"}, Trace: trace},
	}
	if !l.enqueue(&entry) {
		l.others[at.action] += count
	}
}

func (l *Log) enqueue(entry *activity.Entry) bool {
	select {
	case l.queue <- *entry:
		return true
	default:
		return false
	}
}

// flush tells what was counted in windows that are over, or in all.
func (l *Log) flush(all bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.clock()
	l.denied.drop(func(known *tally) bool {
		over := all || now.Sub(known.since) >= Window
		if over && known.more > 0 {
			l.tell(known.place, known.more, known.since, "")
		}
		return over
	})
	if l.renew(now); all {
		l.tellOthers()
	}
}

// Run stores what is to be recorded until ctx ends, and then what is left.
func (l *Log) Run(ctx context.Context) error {
	ticker := time.NewTicker(sweep)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			l.end(ctx)
			return nil
		case entry := <-l.queue:
			l.store(ctx, l.batch(entry))
		case <-ticker.C:
			l.flush(false)
		}
	}
}

// batch takes what waits behind an entry.
func (l *Log) batch(entry activity.Entry) []activity.Entry {
	batch := []activity.Entry{entry}
	for len(batch) < maxBatch {
		select {
		case next := <-l.queue:
			batch = append(batch, next)
		default:
			return batch
		}
	}
	return batch
}

// store tries until ctx ends, and then once more.
func (l *Log) store(ctx context.Context, batch []activity.Entry) {
	report := func(err error) { l.log.Warn().Err(err).Msg("logins not recorded, trying again") }
	// What is under way is not cut off by the end: nobody would know whether it was stored, and it would be stored twice.
	err := lifecycle.Retry(ctx, report, func(ctx context.Context) error {
		ctx, stop := context.WithTimeout(context.WithoutCancel(ctx), lastWords)
		defer stop()
		return l.recorder.Record(ctx, batch...)
	})
	if err != nil {
		last, stop := context.WithTimeout(context.WithoutCancel(ctx), lastWords)
		defer stop()
		l.storeOnce(last, batch)
	}
}

func (l *Log) storeOnce(ctx context.Context, batch []activity.Entry) {
	if err := l.recorder.Record(ctx, batch...); err != nil {
		l.log.Error().Err(err).Int("activities", len(batch)).Msg("logins not recorded")
	}
}

// end stores what is left. Nobody comes in any more, so after the second time around nothing is.
func (l *Log) end(ctx context.Context) {
	ctx, stop := context.WithTimeout(context.WithoutCancel(ctx), lastWords)
	defer stop()
	for {
		l.flush(true)
		if len(l.queue) == 0 {
			return
		}
		for len(l.queue) > 0 { // only Run takes from it
			l.storeOnce(ctx, l.batch(<-l.queue))
		}
	}
}
