package publish

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/mod/sumdb/note"

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
	log      zerolog.Logger
	places   []*place
}

type place struct {
	name string
	to   Publisher
	// interval is how long the place is left alone after a head.
	interval time.Duration

	mutex sync.Mutex
	// newest is what is to be published, of size 0 for nothing.
	newest storedtree.SignedHead
	// has is the size of the newest head that the place is known to have.
	has int64
	// compared tells that what the place has was known when the log was compared last; back that it answers, but was not.
	compared, back bool
	wake           chan struct{}
}

// NewAll makes an All over nothing.
func NewAll(verifier note.Verifier, log zerolog.Logger) *All {
	return &All{verifier: verifier, log: log}
}

// Add adds a place. It must not be called after Run, Publish or Published.
func (a *All) Add(name string, to Publisher) {
	a.AddEvery(0, name, to)
}

// AddEvery adds a place that gets a head once in an interval at most, and the newest in the end.
func (a *All) AddEvery(interval time.Duration, name string, to Publisher) {
	a.places = append(a.places, &place{name: name, to: to, interval: interval, wake: make(chan struct{}, 1)})
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
		asked.Go(func() { heads[i], problems[i] = p.ask(ctx, a.verifier) })
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
	select {
	case p.wake <- struct{}{}:
	default: // it knows
	}
	return p.back
}

// ask forgets what was to be published: the log may turn out to be another one.
func (p *place) ask(ctx context.Context, verifier note.Verifier) (storedtree.SignedHead, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	head, err := p.to.Published(ctx)
	p.mutex.Lock()
	defer p.mutex.Unlock()
	p.compared, p.back, p.newest, p.has = err == nil, false, storedtree.SignedHead{}, 0
	if verified, wrong := tree.OpenHead(head.Note, verifier); wrong == nil {
		p.has = verified.Size
	}
	return head, err
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
		if lifecycle.Retry(ctx, report, p.publish) != nil || !lifecycle.Sleep(ctx, p.interval) {
			return nil //nolint:nilerr // ctx has ended
		}
	}
}

// publish publishes the newest head, if there is one that is not.
func (p *place) publish(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	head, compared := p.state()
	if head.Size == 0 {
		return nil
	}
	if !compared {
		if _, err := p.to.Published(ctx); err != nil {
			return err
		}
		p.mutex.Lock()
		defer p.mutex.Unlock()
		p.back = !p.compared
		return nil
	}
	if err := p.to.Publish(ctx, head); err != nil {
		return err
	}
	p.mutex.Lock()
	defer p.mutex.Unlock()
	p.has = max(p.has, head.Size)
	return nil
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
