package secret

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/nats-io/nats.go/jetstream"

	"github.com/galley-engine/galley/pkg/clock"
	"github.com/galley-engine/galley/schemas/subject"
)

const (
	// MaxValue is the most bytes that a secret may have.
	MaxValue = 16 << 10
	// MaxSecrets is the most secrets that a customer may have.
	MaxSecrets = 200

	maxName = 64
	// patience bounds what takes several round trips.
	patience = 5 * time.Second
)

var (
	// ErrNotSet says that there is no such secret.
	ErrNotSet = errors.New("the secret is not set")
	// ErrTooMany says that the customer has as many secrets as there may be.
	ErrTooMany = fmt.Errorf("a customer has at most %d secrets", MaxSecrets)
	// ErrInvalidName says that a secret cannot have the name.
	ErrInvalidName = errors.New("must match [A-Za-z][A-Za-z0-9_]{0,63}")
	// ErrInvalidValue says that a secret cannot have the value.
	ErrInvalidValue = fmt.Errorf("must be a text of 1 to %d bytes of UTF-8", MaxValue)
)

// ValidName tells whether a secret may be called name: [A-Za-z][A-Za-z0-9_]{0,63}, which an expression can spell.
func ValidName(name string) bool {
	for i := range len(name) {
		c := name[i]
		letter := c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z'
		if !letter && (i == 0 || c != '_' && (c < '0' || c > '9')) {
			return false
		}
	}
	return name != "" && len(name) <= maxName
}

// ValidValue tells whether a secret may have the value.
func ValidValue(value string) bool {
	return value != "" && len(value) <= MaxValue && utf8.ValidString(value)
}

// Info is what everybody may know who may know of the secret at all.
type Info struct {
	Name      string    `json:"name"`
	CreatedAt time.Time `json:"created_at"`
	UpdatedAt time.Time `json:"updated_at"`
}

// record is what the bucket holds.
type record struct {
	KeyID     string    `json:"key_id"`
	Sealed    []byte    `json:"sealed"`
	CreatedAt time.Time `json:"created_at"`
	UpdatedAt time.Time `json:"updated_at"`
}

// Store is the bucket of secrets. Names of customers must be valid ids. Errors other than those of this package mean that the bucket
// cannot be reached or is not there yet.
type Store struct {
	js    jetstream.JetStream
	keys  Keys
	clock clock.Clock
}

// NewStore makes a Store.
func NewStore(js jetstream.JetStream, keys Keys, now clock.Clock) *Store {
	return &Store{js: js, keys: keys, clock: now}
}

// Put sets a secret, whether it is there already or not: ErrInvalidName, ErrInvalidValue, ErrNoKey or ErrTooMany when it may not be.
// The limits and CreatedAt hold as long as one caller at a time sets secrets of a customer.
func (s *Store) Put(ctx context.Context, customer, name, value string) error {
	if !ValidName(name) {
		return ErrInvalidName
	}
	if !ValidValue(value) {
		return ErrInvalidValue
	}
	keyID, sealed, err := s.keys.seal(place(customer, name), value)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	bucket, err := s.bucket(ctx)
	if err != nil {
		return err
	}
	now := s.clock()
	next := record{KeyID: keyID, Sealed: sealed, CreatedAt: now, UpdatedAt: now}
	held, err := read(ctx, bucket, customer, name)
	switch {
	case err == nil:
		next.CreatedAt = held.CreatedAt
	case errors.Is(err, ErrNotSet):
		if err := requireRoom(ctx, bucket, customer); err != nil {
			return err
		}
	case !errors.Is(err, ErrUnreadable): // what is unreadable is overwritten
		return err
	}
	data, err := json.Marshal(next)
	if err != nil {
		return fmt.Errorf("encode secret: %w", err)
	}
	if _, err := bucket.Put(ctx, subject.SecretKey(customer, name), data); err != nil {
		return fmt.Errorf("put secret: %w", err)
	}
	return nil
}

// Delete forgets a secret. It is ErrNotSet when there is none.
func (s *Store) Delete(ctx context.Context, customer, name string) error {
	if !ValidName(name) {
		return ErrInvalidName
	}
	bucket, err := s.bucket(ctx)
	if err != nil {
		return err
	}
	if _, err := read(ctx, bucket, customer, name); err != nil && !errors.Is(err, ErrUnreadable) {
		return err
	}
	// The bucket keeps one revision of a key, so this leaves nothing of the ciphertext.
	if err := bucket.Delete(ctx, subject.SecretKey(customer, name)); err != nil {
		return fmt.Errorf("delete secret: %w", err)
	}
	return nil
}

// Get reads a secret: ErrNotSet when there is none, ErrUnreadable when it cannot be opened.
func (s *Store) Get(ctx context.Context, customer, name string) (string, error) {
	if !ValidName(name) {
		return "", ErrNotSet
	}
	bucket, err := s.bucket(ctx)
	if err != nil {
		return "", err
	}
	held, err := read(ctx, bucket, customer, name)
	if err != nil {
		return "", err
	}
	return s.keys.open(place(customer, name), held.KeyID, held.Sealed)
}

// List tells which secrets the customer has, by name.
func (s *Store) List(ctx context.Context, customer string) ([]Info, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	bucket, err := s.bucket(ctx)
	if err != nil {
		return nil, err
	}
	watcher, err := bucket.Watch(ctx, subject.SecretKey(customer, "*"), jetstream.IgnoreDeletes())
	if err != nil {
		return nil, fmt.Errorf("list secrets: %w", err)
	}
	defer watcher.Stop() //nolint:errcheck // what it leaves behind on the server ends by itself
	var found []Info
	for {
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("list secrets: %w", context.Cause(ctx))
		case entry, open := <-watcher.Updates():
			if !open {
				return nil, errors.New("list secrets: cut off")
			}
			if entry == nil { // that were all
				slices.SortFunc(found, func(a, b Info) int { return cmp.Compare(a.Name, b.Name) })
				return found, nil
			}
			held, err := decode(entry.Value())
			if err != nil {
				held.CreatedAt, held.UpdatedAt = entry.Created(), entry.Created()
			}
			_, name, _ := strings.Cut(entry.Key(), ".")
			found = append(found, Info{Name: name, CreatedAt: held.CreatedAt.UTC(), UpdatedAt: held.UpdatedAt.UTC()})
		}
	}
}

func (s *Store) bucket(ctx context.Context) (jetstream.KeyValue, error) {
	bucket, err := s.js.KeyValue(ctx, subject.BucketSecrets)
	if err != nil {
		return nil, fmt.Errorf("open bucket %s: %w", subject.BucketSecrets, err)
	}
	return bucket, nil
}

// place is what a secret is sealed for. Neither part can hold a slash.
func place(customer, name string) string { return customer + "/" + name }

func read(ctx context.Context, bucket jetstream.KeyValue, customer, name string) (record, error) {
	entry, err := bucket.Get(ctx, subject.SecretKey(customer, name))
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return record{}, ErrNotSet
	}
	if err != nil {
		return record{}, fmt.Errorf("read secret: %w", err)
	}
	return decode(entry.Value())
}

func decode(data []byte) (record, error) {
	var held record
	if err := json.Unmarshal(data, &held); err != nil {
		return record{}, fmt.Errorf("%w: decode: %w", ErrUnreadable, err)
	}
	return held, nil
}

// requireRoom is ErrTooMany when the customer can have no further secret.
func requireRoom(ctx context.Context, bucket jetstream.KeyValue, customer string) error {
	keys, err := bucket.ListKeysFiltered(ctx, subject.SecretKey(customer, "*"))
	if err != nil {
		return fmt.Errorf("count secrets: %w", err)
	}
	count := 0
	for range keys.Keys() {
		count++
	}
	if count >= MaxSecrets {
		return ErrTooMany
	}
	return nil
}
