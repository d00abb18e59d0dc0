// Package store runs store.set, store.get and store.delete: values that a customer's recipes keep beyond an execution, in the JetStream
// bucket "store". The revision of a value is its sequence there.
//
// Every change carries the call's idempotency key, so one whose acknowledgement was lost is recognised when it is made again, as long as
// nobody has changed the key since. Reads go through the stream's leader: a step sees what any step before it has written.
package store

import (
	"context"
	"encoding/json"
	"strings"
	"time"

	"github.com/galley-engine/galley/pkg/bus"
	"github.com/galley-engine/galley/pkg/recipe"
	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/problem"
	"github.com/galley-engine/galley/schemas/subject"
	"github.com/galley-engine/galley/services/executor/internal/component"
)

// The kinds of this package.
const (
	KindSet    recipe.Kind = "store.set"
	KindGet    recipe.Kind = "store.get"
	KindDelete recipe.Kind = "store.delete"
)

const (
	// MaxValue is the size of a value, as JSON.
	MaxValue = 64 << 10
	// MaxKeys is how many keys a customer may have. What was deleted counts for another hour (markerTTL). The count is taken before a key
	// is made, so keys that are made in the same moment can exceed it by their number.
	MaxKeys = 10_000

	maxParts = 4
	minTTL   = time.Second
	maxTTL   = 365 * 24 * time.Hour
	// maxConflicts bounds the tries of a change against others. Of those that collide one gets through.
	maxConflicts = 20
)

// Store has the components over the bucket.
type Store struct{ bucket bucket }

// New makes a Store.
func New(messages *bus.Bus) *Store {
	return &Store{bucket{messages}}
}

// Components are the components of this package by their kinds.
func (s *Store) Components() component.Registry {
	return component.Registry{
		KindSet: component.Func(s.Set), KindGet: component.Func(s.Get), KindDelete: component.Func(s.Delete),
	}
}

type setInput struct {
	Key        string  `json:"key"`
	Value      any     `json:"value"`
	TTL        string  `json:"ttl"`
	IfRevision *uint64 `json:"if_revision"`
}

// Set runs store.set.
func (s *Store) Set(ctx context.Context, call *component.Call) (component.Result, error) {
	input, err := component.Input[setInput](call)
	if err != nil {
		return component.Result{}, err
	}
	if err := checkKey(input.Key); err != nil {
		return component.Result{}, err
	}
	wanted := change{mark: call.IdempotencyKey()}
	if wanted.data, err = encode(input.Value); err != nil {
		return component.Result{}, err
	}
	if wanted.ttl, err = parseTTL(input.TTL); err != nil {
		return component.Result{}, err
	}
	revision, err := s.set(ctx, call.Execution.Customer, &input, wanted)
	if err != nil {
		return component.Result{}, err
	}
	return component.Result{Output: map[string]any{"key": input.Key, "revision": float64(revision)}}, nil
}

func (s *Store) set(ctx context.Context, customer string, input *setInput, wanted change) (revision uint64, err error) {
	place := subject.StoreKey(customer, input.Key)
	for range maxConflicts {
		found, err := s.bucket.last(ctx, place)
		switch {
		case err != nil:
			return 0, err
		case found.there && found.mark == wanted.mark:
			return found.sequence, nil // an earlier attempt got through
		case input.IfRevision != nil && *input.IfRevision != found.revision():
			return 0, conflict(input.Key, found)
		case found.sequence == 0:
			if err := s.requireRoom(ctx, customer); err != nil {
				return 0, err
			}
		}
		wanted.guard = nil
		if input.IfRevision != nil {
			wanted.guard = &found.sequence
		}
		sequence, moved, err := s.bucket.write(ctx, place, &wanted)
		if !moved {
			return sequence, err
		}
	}
	return 0, contended()
}

func (s *Store) requireRoom(ctx context.Context, customer string) error {
	keys, err := s.bucket.count(ctx, subject.StoreKey(customer, ">"))
	if err == nil && keys >= MaxKeys {
		err = component.Failure(problem.StateTooLarge, "the store has %d keys already, it can hold no further one", MaxKeys)
	}
	return err
}

// Get runs store.get.
func (s *Store) Get(ctx context.Context, call *component.Call) (component.Result, error) {
	input, err := component.Input[struct {
		Key     string `json:"key"`
		Default any    `json:"default"`
	}](call)
	if err != nil {
		return component.Result{}, err
	}
	if err := checkKey(input.Key); err != nil {
		return component.Result{}, err
	}
	found, err := s.bucket.last(ctx, subject.StoreKey(call.Execution.Customer, input.Key))
	if err != nil {
		return component.Result{}, err
	}
	value := input.Default
	if found.there {
		if json.Unmarshal(found.data, &value) != nil {
			return component.Result{}, component.Failure(problem.ComponentError, "what is kept under %s is not JSON", input.Key)
		}
	}
	return component.Result{Output: map[string]any{
		"key": input.Key, "found": found.there, "value": value, "revision": float64(found.revision()),
	}}, nil
}

type deleteInput struct {
	Key        string  `json:"key"`
	IfRevision *uint64 `json:"if_revision"`
}

// Delete runs store.delete.
func (s *Store) Delete(ctx context.Context, call *component.Call) (component.Result, error) {
	input, err := component.Input[deleteInput](call)
	if err != nil {
		return component.Result{}, err
	}
	if err := checkKey(input.Key); err != nil {
		return component.Result{}, err
	}
	deleted, err := s.delete(ctx, call.Execution.Customer, &input, call.IdempotencyKey())
	if err != nil {
		return component.Result{}, err
	}
	return component.Result{Output: map[string]any{"key": input.Key, "deleted": deleted}}, nil
}

func (s *Store) delete(ctx context.Context, customer string, input *deleteInput, mark string) (deleted bool, err error) {
	place := subject.StoreKey(customer, input.Key)
	for range maxConflicts {
		found, err := s.bucket.last(ctx, place)
		switch {
		case err != nil:
			return false, err
		case !found.there:
			return found.mark == mark, nil // true when an earlier attempt got through
		case input.IfRevision != nil && *input.IfRevision != found.revision():
			return false, conflict(input.Key, found)
		}
		_, moved, err := s.bucket.write(ctx, place, &change{remove: true, mark: mark, guard: &found.sequence})
		if !moved {
			return err == nil, err
		}
	}
	return false, contended()
}

// checkKey keeps a key inside its customer, whatever else has or has not been checked.
func checkKey(key string) error {
	parts := strings.Split(key, ".")
	valid := len(parts) <= maxParts
	for _, part := range parts {
		valid = valid && subject.ValidID(part)
	}
	if !valid {
		return component.Failure(problem.ComponentError, "key must be one to four ids with a dot between each two")
	}
	return nil
}

func encode(value any) ([]byte, error) {
	if value == nil {
		return nil, component.Failure(problem.ComponentError, "value is missing: null cannot be kept")
	}
	data, err := event.Encode(value)
	if err != nil {
		return nil, component.Failure(problem.ComponentError, "value cannot be written as JSON")
	}
	if len(data) > MaxValue {
		return nil, component.Failure(problem.StateTooLarge, "the value is %d bytes as JSON, more than the %d that can be kept", len(data), MaxValue)
	}
	return data, nil
}

// parseTTL gives whole seconds, the unit of the server; 0 for no text.
func parseTTL(text string) (time.Duration, error) {
	if text == "" {
		return 0, nil
	}
	ttl, err := time.ParseDuration(text)
	if err != nil || ttl < minTTL || ttl > maxTTL {
		return 0, component.Failure(problem.ComponentError, "ttl must be a duration from 1s to 8760h")
	}
	return (ttl + time.Second - 1).Truncate(time.Second), nil
}

func conflict(key string, found entry) error {
	if !found.there {
		return component.Failure(problem.Conflict, "there is no value under %s", key)
	}
	return component.Failure(problem.Conflict, "the value under %s has revision %d", key, found.sequence)
}

func contended() error {
	return component.Retryable(problem.Unavailable, "the key is being changed too often at the moment")
}
