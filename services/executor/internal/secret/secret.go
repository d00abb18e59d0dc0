// Package secret gives steps the secrets that their templates read, and takes them out of what is kept of the steps afterwards.
package secret

import (
	"context"
	"errors"
	"fmt"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/rs/zerolog"
	"golang.org/x/sync/singleflight"

	"github.com/galley-engine/galley/pkg/clock"
	"github.com/galley-engine/galley/pkg/secret"
	"github.com/galley-engine/galley/schemas/problem"
)

const (
	// lifetime and readTimeout together are the longest that a step may get a value that was changed or deleted.
	lifetime    = 2 * time.Second
	readTimeout = 2 * time.Second

	capacity = 1000
)

// Secrets reads customers' secrets. It is safe for concurrent use.
type Secrets struct {
	store   *secret.Store
	values  *lru.Cache[key, held]
	flights singleflight.Group
	clock   clock.Clock
	log     zerolog.Logger
}

type key struct{ customer, name string }

type held struct {
	value string
	// asked is when the value was asked for, which is before it was read.
	asked time.Time
}

// New makes Secrets over the bucket.
func New(js jetstream.JetStream, keys secret.Keys, now clock.Clock, log zerolog.Logger) (*Secrets, error) {
	values, err := lru.New[key, held](capacity)
	if err != nil {
		return nil, fmt.Errorf("make the cache of secrets: %w", err)
	}
	return &Secrets{store: secret.NewStore(js, keys, now), values: values, clock: now, log: log}, nil
}

// Lookup gives the values by their names. One that is not there, or cannot be opened, is a *problem.Error; any other error means that
// the bucket cannot be read at the moment.
func (s *Secrets) Lookup(ctx context.Context, customer string, names []string) (map[string]any, error) {
	found := make(map[string]any, len(names))
	for _, name := range names {
		value, err := s.lookup(ctx, key{customer, name})
		if err != nil {
			return nil, err
		}
		found[name] = value
	}
	return found, nil
}

func (s *Secrets) lookup(ctx context.Context, k key) (string, error) {
	// A clock that was set back must not make a value last longer.
	if h, ok := s.values.Get(k); ok {
		if now := s.clock(); !now.Before(h.asked) && now.Sub(h.asked) < lifetime {
			return h.value, nil
		}
	}
	// That a secret is not there is not remembered: whoever sets it then wants to use it.
	value, err, _ := s.flights.Do(k.customer+"/"+k.name, func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), readTimeout)
		defer cancel()
		asked := s.clock()
		value, err := s.store.Get(ctx, k.customer, k.name)
		if err != nil {
			s.values.Remove(k)
			return "", s.explain(k, err)
		}
		s.values.Add(k, held{value: value, asked: asked})
		return value, nil
	})
	text, _ := value.(string)
	return text, err
}

func (s *Secrets) explain(k key, err error) error {
	switch {
	case errors.Is(err, secret.ErrNotSet):
		return &problem.Error{Code: problem.SecretUnavailable, Message: fmt.Sprintf("the secret %q is not set", k.name)}
	case errors.Is(err, secret.ErrUnreadable):
		s.log.Error().Err(err).Str("customer", k.customer).Str("secret", k.name).Msg("a secret cannot be opened")
		return &problem.Error{Code: problem.SecretUnavailable, Message: fmt.Sprintf("the secret %q cannot be opened", k.name)}
	}
	return fmt.Errorf("look up secret %s of %s: %w", k.name, k.customer, err)
}
