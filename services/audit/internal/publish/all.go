package publish

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/mod/sumdb/note"

	"github.com/galley-engine/galley/pkg/clock"
	"github.com/galley-engine/galley/pkg/lifecycle"
	"github.com/galley-engine/galley/services/audit/internal/storedtree"
	"github.com/galley-engine/galley/services/audit/internal/tree"
)

// patience is how long one place may take.
const patience = 10 * time.Second

// Publisher is one place that tree heads are published in.
type Publisher interface {
	Publish(ctx context.Context, head storedtree.SignedHead) error
	Published(ctx context.Context) (storedtree.SignedHead, error)
}

// errBack says that a place answers again whose newest head was not known when the log was compared with what was published.
var errBack = errors.New("a place that tree heads are published in answers again: the log is compared with what it has")

// All publishes in several places, each at its own pace: one that is down keeps neither the others nor the signer waiting. A place that is
// behind gets the newest head.
//
// A place that does not answer when the log is compared with what was published gets nothing until it was compared: otherwise the head of a
// log that was rewound could take the place of the one that gives it away.
type All struct {
	verifier note.Verifier
	// clock measures for how long a place is behind, and is in nothing that is published.
	clock  clock.Clock
	log    zerolog.Logger
	places []*place
}

// State is how it stands with a place.
type State struct {
	Place string
	// Size is that of the newest head that the place is known to have.
	Size int64
	// Behind is for how long it has been without a newer one, or has not answered.
	Behind time.Duration
}

type place struct {
	all  *All
	name string
	to   Publisher
	// interval is how long the place is left alone after a head.
	interval time.Duration

	mutex sync.Mutex
	// newest is what is to be published, of size 0 for nothing.
	newest storedtree.SignedHead
	// has is the size of the newest head that the place is known to have.
	has int64
	// since is from when on the place has been without the newest head, or has not answered; zero when neither is so.
	since time.Time
	// compared tells that what the place has was known when the log was compared last; back that it answers, but was not.
	compared, back bool
	wake           chan struct{}
}

// NewAll makes an All over nothing.
func NewAll(verifier note.Verifier, log zerolog.Logger) *All {
	return &All{verifier: verifier, clock: clock.System, log: log}
}

// Add adds a place. It must not be called after Run, Publish or Published.
func (a *All) Add(name string, to Publisher) {
	a.AddEvery(0, name, to)
}

// AddEvery adds a place that gets a head once in an interval at most, and the newest in the end.
func (a *All) AddEvery(interval time.Duration, name string, to Publisher) {
	a.places = append(a.places, &place{all: a, name: name, to: to, interval: interval, wake: make(chan struct{}, 1)})
}

// States tells how it stands with each place. It is known to the process that publishes.
func (a *All) States() []State {
	states := make([]State, len(a.places))
	for i, p := range a.places {
		p.mutex.Lock()
		states[i] = State{Place: p.name, Size: p.has}
		if !p.since.IsZero() {
			states[i].Behind = a.clock().Sub(p.since)
		}
		p.mutex.Unlock()
	}
	return states
}

// Run publishes what it is given until ctx ends.
func (a *All) Run(ctx context.Context) error {
	runs := make([]func(context.Context) error, len(a.places))
	for i, p := range a.places {
		runs[i] = func(ctx context.Context) error { return a.serve(ctx, p) }
	}
	return lifecycle.Run(ctx, runs...)
}

// Publish hands the head to every place. An error means that [All.Published] must be asked again.
func (a *All) Publish(_ context.Context, head storedtree.SignedHead) error {
	for _, p := range a.places {
		if p.offer(head) {
			return fmt.Errorf("%s: %w", p.name, errBack)
		}
	}
	return nil
}

// Published gives the largest head that verifies of all places; if none does, one that does not, which is for the caller to judge. It fails
// only when no place answers.
func (a *All) Published(ctx context.Context) (storedtree.SignedHead, error) {
	heads := make([]storedtree.SignedHead, len(a.places))
	problems := make([]error, len(a.places))
	var asked sync.WaitGroup
	for i, p := range a.places {
		asked.Go(func() { heads[i], problems[i] = p.ask(ctx) })
	}
	asked.Wait()
	var verified, other storedtree.SignedHead
	answers := 0
	for i, head := range heads {
		if problems[i] != nil {
			a.log.Warn().Err(problems[i]).Str("place", a.places[i].name).Msg("it is not known which tree heads were published there")
			continue
		}
		answers++
		switch _, err := tree.OpenHead(head.Note, a.verifier); {
		case head.Size == 0:
		case err != nil:
			other = head
		case head.Size > verified.Size:
			verified = head
		}
	}
	if answers == 0 {
		return storedtree.SignedHead{}, fmt.Errorf("ask for the published tree heads: %w", errors.Join(problems...))
	}
	if verified.Size == 0 {
		return other, nil
	}
	return verified, nil
}

// offer gives the place a head. It is true when the place must be asked first.
func (p *place) offer(head storedtree.SignedHead) (ask bool) {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	p.newest = head
	p.judge(true)
	select {
	case p.wake <- struct{}{}:
	default: // it knows
	}
	return p.back
}

// ask forgets what was to be published: the log may turn out to be another one.
func (p *place) ask(ctx context.Context) (storedtree.SignedHead, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	head, err := p.to.Published(ctx)
	p.mutex.Lock()
	defer p.mutex.Unlock()
	p.compared, p.back, p.newest, p.has = err == nil, false, storedtree.SignedHead{}, 0
	p.learn(head)
	p.judge(err == nil)
	return head, err
}

// learn takes in what the place has. The caller holds the mutex, as for judge.
func (p *place) learn(head storedtree.SignedHead) {
	if verified, wrong := tree.OpenHead(head.Note, p.all.verifier); wrong == nil {
		p.has = verified.Size
	}
}

// judge keeps since up to date.
func (p *place) judge(answers bool) {
	switch {
	case answers && p.newest.Size <= p.has:
		p.since = time.Time{}
	case p.since.IsZero():
		p.since = p.all.clock()
	}
}

// serve publishes the place's heads, one after the other.
func (a *All) serve(ctx context.Context, p *place) error {
	report := func(err error) {
		level := zerolog.WarnLevel
		if errors.Is(err, errTaken) {
			level = zerolog.ErrorLevel
		}
		a.log.WithLevel(level).Err(err).Str("place", p.name).Msg("tree head not published, trying again")
	}
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-p.wake:
		}
		published := false
		err := lifecycle.Retry(ctx, report, func(ctx context.Context) (err error) {
			published, err = p.publish(ctx)
			return err
		})
		if err != nil || published && !lifecycle.Sleep(ctx, p.interval) {
			return nil //nolint:nilerr // ctx has ended
		}
	}
}

// publish publishes the newest head, if there is one that is not.
func (p *place) publish(ctx context.Context) (published bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	head, compared := p.state()
	if head.Size == 0 {
		return false, nil
	}
	if !compared {
		had, err := p.to.Published(ctx)
		if err != nil {
			return false, err
		}
		p.mutex.Lock()
		defer p.mutex.Unlock()
		if p.back = !p.compared; p.back {
			p.learn(had)
			p.judge(true)
		}
		return false, nil
	}
	if err := p.to.Publish(ctx, head); err != nil {
		return false, err
	}
	p.mutex.Lock()
	defer p.mutex.Unlock()
	p.has, p.since = max(p.has, head.Size), time.Time{}
	p.judge(true)
	return true, nil
}

// state gives what is to be published, of size 0 for nothing.
func (p *place) state() (newest storedtree.SignedHead, compared bool) {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	if p.newest.Size <= p.has {
		return storedtree.SignedHead{}, p.compared
	}
	return p.newest, p.compared
}
