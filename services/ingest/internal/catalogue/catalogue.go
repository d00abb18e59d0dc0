// Package catalogue owns what executions are made of: customers and their settings, API keys, agents, and recipes with their
// immutable versions. It keeps them in Postgres, publishes recipe versions to the bucket that the executor reads, and answers the
// hot path from memory.
//
// Errors that a caller may see are *problem.Error, with [InvalidError] and [RecipeError] for those that name places. Of a failure
// to reach Postgres or NATS, the *problem.Error comes first and the cause is wrapped behind it, for the log only.
package catalogue

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/galley-engine/galley/pkg/clock"
	"github.com/galley-engine/galley/pkg/outbox"
	"github.com/galley-engine/galley/pkg/recipe"
	"github.com/galley-engine/galley/pkg/secret"
	"github.com/galley-engine/galley/schemas/problem"
	"github.com/galley-engine/galley/schemas/subject"
	"github.com/galley-engine/galley/services/ingest/internal/activity"
)

// How long other processes may go on with what was changed, when they missed the news of it. In the process that changes
// something, and normally in all others, the change is seen at once.
const (
	keyTTL      = 5 * time.Second
	latestTTL   = 2 * time.Second
	settingsTTL = 2 * time.Second
	versionTTL  = time.Hour // a version never changes
)

// How many entries are kept in memory.
const (
	keyLimit      = 10_000
	latestLimit   = 10_000
	settingsLimit = 1000
	versionLimit  = 1000
)

// Catalogue reads and changes the catalogue.
type Catalogue struct {
	pool     *pgxpool.Pool
	conn     *nats.Conn
	js       jetstream.JetStream
	outbox   *outbox.Outbox
	compiler *recipe.Compiler
	clock    clock.Clock

	secrets    *secret.Store
	secretKeys secret.Keys

	keys     *cache[Identity]
	latest   *cache[int]
	versions *cache[*recipe.Recipe]
	settings *cache[settings]
}

// Deps is what a Catalogue is given.
type Deps struct {
	// Pool acts as the role galley_ingest_reader.
	Pool   *pgxpool.Pool
	Conn   *nats.Conn
	JS     jetstream.JetStream
	Outbox *outbox.Outbox
	// SecretKeys seal the customers' secrets. Without one there are no secrets.
	SecretKeys secret.Keys
	Clock      clock.Clock
}

// New makes a Catalogue.
func New(deps Deps) (*Catalogue, error) {
	compiler, err := recipe.NewCompiler()
	if err != nil {
		return nil, fmt.Errorf("make recipe compiler: %w", err)
	}
	return &Catalogue{
		pool: deps.Pool, conn: deps.Conn, js: deps.JS, outbox: deps.Outbox, compiler: compiler, clock: deps.Clock,
		secrets: secret.NewStore(deps.JS, deps.SecretKeys, deps.Clock), secretKeys: deps.SecretKeys,
		keys:     newCache[Identity](keyTTL, keyLimit, deps.Clock),
		latest:   newCache[int](latestTTL, latestLimit, deps.Clock),
		versions: newCache[*recipe.Recipe](versionTTL, versionLimit, deps.Clock),
		settings: newCache[settings](settingsTTL, settingsLimit, deps.Clock),
	}, nil
}

// Author is who makes a change, and in which trace.
type Author = activity.Author

// Resources of the activities that the memory of this process follows, the first part of their action types.
const (
	resourceCustomer = "customer"
	resourceKey      = "api_key"
	resourceRecipe   = "recipe"
)

// record stores in the transaction what was done, for the audit log and for the memory of other processes.
func (c *Catalogue) record(ctx context.Context, tx pgx.Tx, entry activity.Entry) error {
	return activity.Store(ctx, tx, c.outbox, c.clock(), &entry)
}

// Run keeps the memory of this process true to what other processes change, until ctx ends. News that is missed while NATS is away
// is made up for by the short life of the entries.
func (c *Catalogue) Run(ctx context.Context) error {
	subscription, err := c.conn.Subscribe(subject.Activity("*", "*.*"), func(message *nats.Msg) {
		if parts := strings.Split(message.Subject, "."); len(parts) == 5 {
			c.forget(parts[2], parts[3])
		}
	})
	if err != nil {
		return fmt.Errorf("subscribe to activities: %w", err)
	}
	<-ctx.Done()
	_ = subscription.Unsubscribe()
	return nil
}

// forget drops what this process remembers of one kind of a customer's resources.
func (c *Catalogue) forget(customer, resource string) {
	switch resource {
	case resourceCustomer:
		c.settings.forget(func(key string, _ settings) bool { return key == customer })
	case resourceKey:
		c.keys.forget(func(_ string, identity Identity) bool { return identity.Customer == customer })
	case resourceRecipe:
		// A version that was asked for before it was published is remembered as unknown.
		ofCustomer := func(key string) bool { return strings.HasPrefix(key, customer+".") }
		c.latest.forget(func(key string, _ int) bool { return ofCustomer(key) })
		c.versions.forget(func(key string, found *recipe.Recipe) bool { return found == nil && ofCustomer(key) })
	}
}

// InvalidError says which fields of a request break a rule. It unwraps to a *problem.Error.
type InvalidError struct{ Violations []problem.Violation }

// Error joins the violations.
func (e *InvalidError) Error() string {
	texts := make([]string, 0, len(e.Violations))
	for _, violation := range e.Violations {
		texts = append(texts, violation.Path+": "+violation.Message)
	}
	return strings.Join(texts, "; ")
}

// Unwrap gives the error without its paths.
func (e *InvalidError) Unwrap() error {
	return &problem.Error{Code: problem.InvalidRequest, Message: "the request breaks a rule"}
}

// rules collects violations.
type rules []problem.Violation

func (r *rules) require(holds bool, path, message string) {
	if !holds {
		*r = append(*r, problem.Violation{Path: path, Message: message})
	}
}

func (r *rules) id(path, id string) {
	r.require(subject.ValidID(id), path, subject.ErrInvalidID.Error())
}

// text checks a text for people: Postgres does not store NUL, and no other control character belongs into one either.
func (r *rules) text(path, text string, limit int) {
	r.require(utf8.ValidString(text) && !strings.ContainsFunc(text, unicode.IsControl), path, "must not hold control characters")
	r.require(utf8.RuneCountInString(text) <= limit, path, fmt.Sprintf("must have at most %d characters", limit))
}

func (r rules) err() error {
	if len(r) == 0 {
		return nil
	}
	return &InvalidError{Violations: r}
}

func notFound(format string, args ...any) error {
	return &problem.Error{Code: problem.NotFound, Message: fmt.Sprintf(format, args...)}
}

func conflict(format string, args ...any) error {
	return &problem.Error{Code: problem.Conflict, Message: fmt.Sprintf(format, args...)}
}

// failure makes err one that a caller may see. What Postgres refuses for the sake of the data would be refused again: a defect.
// Anything else, such as a lost connection or a schema that is not migrated yet, may pass.
func failure(doing string, err error) error {
	if _, known := errors.AsType[*problem.Error](err); known {
		return err
	}
	public := &problem.Error{Code: problem.Unavailable, Message: "the catalogue cannot be reached at the moment", Retryable: true}
	if code := sqlState(err); strings.HasPrefix(code, "22") || strings.HasPrefix(code, "23") {
		public = &problem.Error{Code: problem.Internal, Message: "the catalogue failed"}
	}
	return fmt.Errorf("%w: %s: %w", public, doing, err)
}

const (
	stateForeignKey = "23503"
	stateUnique     = "23505"
)

func sqlState(err error) string {
	if refused, ok := errors.AsType[*pgconn.PgError](err); ok {
		return refused.Code
	}
	return ""
}
