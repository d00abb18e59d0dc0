// Package catalogue gives the executor its recipes: immutable versions out of the key-value bucket that ingest fills, compiled
// once and kept.
package catalogue

import (
	"context"
	"errors"
	"fmt"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"
	"github.com/nats-io/nats.go/jetstream"
	"golang.org/x/sync/singleflight"

	"github.com/galley-engine/galley/pkg/lifecycle"
	"github.com/galley-engine/galley/pkg/recipe"
	"github.com/galley-engine/galley/schemas/subject"
)

const (
	// capacity is the number of compiled recipes that are kept. One takes some tens of kilobytes.
	capacity = 1000
	// readTimeout bounds one look at the bucket.
	readTimeout = 5 * time.Second
	// tries at a recipe that is not there, over about two seconds: a read may be answered by a replica that lags behind.
	tries = 6
)

// ErrUnavailable says that the bucket does not hold the version, or holds something that is not a recipe. It is final.
var ErrUnavailable = errors.New("the recipe version is not available")

// Key names a recipe version.
type Key struct {
	Customer string
	Agent    string
	Recipe   string
	Version  int
}

// Bucket reads a value of the bucket of recipes. Its error is jetstream.ErrKeyNotFound where there is none.
type Bucket func(ctx context.Context, key string) ([]byte, error)

// FromJetStream is the real bucket.
func FromJetStream(js jetstream.JetStream) Bucket {
	return func(ctx context.Context, key string) ([]byte, error) {
		bucket, err := js.KeyValue(ctx, subject.BucketRecipes)
		if err != nil {
			return nil, fmt.Errorf("open bucket %s: %w", subject.BucketRecipes, err)
		}
		entry, err := bucket.Get(ctx, key)
		if err != nil {
			return nil, err
		}
		return entry.Value(), nil
	}
}

// Catalogue reads, compiles and keeps recipes. It is safe for concurrent use.
type Catalogue struct {
	bucket   Bucket
	compiler *recipe.Compiler
	compiled *lru.Cache[Key, *recipe.Recipe]
	flights  singleflight.Group
}

// New makes a catalogue over a bucket.
func New(bucket Bucket) (*Catalogue, error) {
	compiler, err := recipe.NewCompiler()
	if err != nil {
		return nil, fmt.Errorf("make the recipe compiler: %w", err)
	}
	compiled, err := lru.New[Key, *recipe.Recipe](capacity)
	if err != nil {
		return nil, fmt.Errorf("make the cache of recipes: %w", err)
	}
	return &Catalogue{bucket: bucket, compiler: compiler, compiled: compiled}, nil
}

// Recipe gives a compiled version. ErrUnavailable is final; any other error means that the bucket could not be read.
func (c *Catalogue) Recipe(ctx context.Context, key Key) (*recipe.Recipe, error) {
	if found, ok := c.compiled.Get(key); ok {
		return found, nil
	}
	name := subject.RecipeKey(key.Customer, key.Agent, key.Recipe, key.Version)
	var backoff lifecycle.Backoff
	for try := 1; ; try++ {
		found, err := c.load(ctx, name)
		if err == nil {
			c.compiled.Add(key, found)
			return found, nil
		}
		if !errors.Is(err, jetstream.ErrKeyNotFound) {
			return nil, err
		}
		if try == tries {
			return nil, fmt.Errorf("recipe %s: %w: %w", name, ErrUnavailable, err)
		}
		if !backoff.Wait(ctx) {
			return nil, fmt.Errorf("recipe %s: %w", name, context.Cause(ctx))
		}
	}
}

// load reads and compiles, once for all who ask at the same time: it must not fail for one because another gave up.
func (c *Catalogue) load(ctx context.Context, name string) (*recipe.Recipe, error) {
	found, err, _ := c.flights.Do(name, func() (any, error) {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), readTimeout)
		defer cancel()
		document, err := c.bucket(ctx, name)
		if err != nil {
			return nil, fmt.Errorf("read recipe %s: %w", name, err)
		}
		compiled, err := c.compiler.Load(document)
		if err != nil {
			return nil, fmt.Errorf("compile recipe %s: %w: %w", name, ErrUnavailable, err)
		}
		return compiled, nil
	})
	if err != nil {
		return nil, err
	}
	compiled, _ := found.(*recipe.Recipe)
	return compiled, nil
}
