package catalogue

import (
	"container/list"
	"context"
	"errors"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"github.com/galley-engine/galley/pkg/clock"
	"github.com/galley-engine/galley/schemas/problem"
)

const (
	// unknownTTL is how long "there is no such thing" is remembered: long enough that a producer that repeats a mistake does not
	// reach Postgres with every message, short enough that nobody notices who corrects it.
	unknownTTL = time.Second
	// staleLimit is how long a value is used while it cannot be read again. Nothing can be published or revoked in a database that
	// is down, so executions go on meanwhile.
	staleLimit = 5 * time.Minute
	// retryPause spaces the tries to read a stale value again.
	retryPause  = time.Second
	loadTimeout = 3 * time.Second
)

// cache remembers what was read from the database: values for ttl, definite refusals for a second, at most limit entries, those
// used last. Reads of the same key at the same time are one.
type cache[V any] struct {
	ttl   time.Duration
	limit int
	clock clock.Clock
	loads singleflight.Group

	mu      sync.Mutex
	entries map[string]*list.Element
	order   list.List
	// generation counts the invalidations: what was read before one must not be stored after it.
	generation uint64
}

type entry[V any] struct {
	key   string
	value V
	err   error
	// loaded is when the value was read, checked when that was last tried, until when it is used without trying.
	loaded, checked, until time.Time
}

func newCache[V any](ttl time.Duration, limit int, now clock.Clock) *cache[V] {
	return &cache[V]{ttl: ttl, limit: limit, clock: now, entries: make(map[string]*list.Element)}
}

// get gives what is remembered under key, or what load reads.
func (c *cache[V]) get(ctx context.Context, key string, load func(ctx context.Context) (V, error)) (V, error) {
	held, generation, found := c.fresh(key)
	if found {
		return held.value, held.err
	}
	// The read serves every caller that waits for it, so the end of one caller must not end it. Who comes after an invalidation
	// does not wait for a read that began before.
	ctx = context.WithoutCancel(ctx)
	result, err, _ := c.loads.Do(strconv.FormatUint(generation, 10)+" "+key, func() (any, error) {
		// Who looked before another's read ended and asks after it finds the answer here instead of reading again.
		held, generation, found := c.fresh(key)
		if found {
			return held.value, held.err
		}
		ctx, cancel := context.WithTimeout(ctx, loadTimeout)
		defer cancel()
		value, err := load(ctx)
		if err == nil || definite(err) {
			c.store(key, generation, value, err)
			return value, err
		}
		if stale, found := c.stale(key); found {
			return stale, nil
		}
		return value, err
	})
	value, _ := result.(V)
	return value, err
}

// definite tells a refusal that reading again would repeat from a failure to read.
func definite(err error) bool {
	refused, ok := errors.AsType[*problem.Error](err)
	return ok && !refused.Retryable
}

// fresh gives the entry that may be used without reading, and the generation at which there was none.
func (c *cache[V]) fresh(key string) (held entry[V], generation uint64, found bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	element, found := c.entries[key]
	if !found {
		return entry[V]{}, c.generation, false
	}
	remembered, _ := element.Value.(*entry[V])
	// A clock that was set back must not make an entry last longer.
	if now := c.clock(); now.Before(remembered.checked) || !now.Before(remembered.until) {
		return entry[V]{}, c.generation, false
	}
	c.order.MoveToFront(element)
	return *remembered, c.generation, true
}

// stale gives a value that could not be read again, for a while.
func (c *cache[V]) stale(key string) (V, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var none V
	element, found := c.entries[key]
	if !found {
		return none, false
	}
	held, _ := element.Value.(*entry[V])
	now := c.clock()
	if held.err != nil || now.Before(held.loaded) || now.Sub(held.loaded) > staleLimit {
		return none, false
	}
	held.checked, held.until = now, now.Add(retryPause)
	return held.value, true
}

func (c *cache[V]) store(key string, generation uint64, value V, err error) {
	ttl := c.ttl
	if err != nil {
		ttl = unknownTTL
	}
	now := c.clock()
	c.mu.Lock()
	defer c.mu.Unlock()
	if generation != c.generation {
		return
	}
	held := &entry[V]{key: key, value: value, err: err, loaded: now, checked: now, until: now.Add(ttl)}
	if element, found := c.entries[key]; found {
		element.Value = held
		c.order.MoveToFront(element)
		return
	}
	c.entries[key] = c.order.PushFront(held)
	if c.order.Len() > c.limit {
		c.remove(c.order.Back())
	}
}

// forget drops the entries that drop selects, and what is being read at the moment.
func (c *cache[V]) forget(drop func(key string, value V) bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.generation++
	for element := c.order.Front(); element != nil; {
		next := element.Next()
		if held, _ := element.Value.(*entry[V]); drop(held.key, held.value) {
			c.remove(element)
		}
		element = next
	}
}

func (c *cache[V]) remove(element *list.Element) {
	if held, ok := c.order.Remove(element).(*entry[V]); ok {
		delete(c.entries, held.key)
	}
}
