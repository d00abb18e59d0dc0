package catalogue

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/galley-engine/galley/pkg/postgres"
	"github.com/galley-engine/galley/pkg/recipe"
	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/problem"
	"github.com/galley-engine/galley/schemas/subject"
	"github.com/galley-engine/galley/services/ingest/internal/activity"
)

// RecipeVersion is an immutable version of a recipe.
type RecipeVersion struct {
	CustomerID  string `json:"customer_id"`
	AgentID     string `json:"agent_id"`
	RecipeID    string `json:"recipe_id"`
	Version     int    `json:"version"`
	Latest      int    `json:"latest_version"`
	Description string `json:"description"`
	// Hash is the SHA-256 of the canonical document, in hexadecimal digits.
	Hash        string    `json:"content_hash"`
	PublishedAt time.Time `json:"published_at"`
	// Document is in its canonical form: JSON. It is left out of lists.
	Document json.RawMessage `json:"document,omitempty"`
}

// RecipeError says what is wrong with a recipe document. It unwraps to a *problem.Error.
type RecipeError struct{ Problems recipe.Problems }

// Error lists the problems.
func (e *RecipeError) Error() string { return e.Problems.Error() }

// Unwrap gives the error without its places.
func (e *RecipeError) Unwrap() error {
	return &problem.Error{Code: problem.InvalidRecipe, Message: "the recipe document has errors"}
}

// Publish makes a document, YAML or JSON, a version of the recipe that it names. Content that was published before is the version
// that it was then: created is false and nothing changes, also when that version is not the latest.
//
// The version is in the bucket before it is in the database, so whoever finds it in the database finds it in the bucket, also after
// a crash between the two. A version that is only in the bucket was never run, and the next publication overwrites it.
func (c *Catalogue) Publish(ctx context.Context, customer string, document []byte, author Author) (
	published RecipeVersion, created bool, err error,
) {
	compiled, err := c.compiler.Load(document)
	if problems, ok := errors.AsType[recipe.Problems](err); ok {
		return RecipeVersion{}, false, &RecipeError{Problems: problems}
	}
	if err != nil {
		return RecipeVersion{}, false, fmt.Errorf("compile recipe: %w", err)
	}
	hash := sha256.Sum256(compiled.Canonical())
	bucket, err := c.js.KeyValue(ctx, subject.BucketRecipes)
	if err != nil {
		return RecipeVersion{}, false, failure("open bucket", err)
	}
	draft := publication{
		RecipeVersion: RecipeVersion{
			CustomerID: customer, AgentID: compiled.Agent, RecipeID: compiled.ID, Description: compiled.Description,
			Hash: hex.EncodeToString(hash[:]), PublishedAt: c.clock(), Document: compiled.Canonical(),
		},
		hash: hash[:], bucket: bucket,
	}
	err = postgres.Transact(ctx, c.pool, customer, func(tx pgx.Tx) error {
		created, err = draft.decide(ctx, tx)
		if err != nil || !created {
			return err
		}
		return c.publish(ctx, tx, &draft, author)
	})
	if err != nil {
		return RecipeVersion{}, false, failure("publish recipe", err)
	}
	if created {
		c.forget(customer, resourceRecipe)
		c.outbox.Wake()
		c.tellLimited(customer)
	}
	return draft.RecipeVersion, created, nil
}

// publication is a version on its way.
type publication struct {
	RecipeVersion
	hash   []byte
	bucket jetstream.KeyValue
}

// decide locks the recipe, which is made where there is none, and fills in the version: the one that has this content, or the next.
func (p *publication) decide(ctx context.Context, tx pgx.Tx) (isNew bool, err error) {
	_, err = tx.Exec(ctx, `INSERT INTO ingest.recipes (customer_id, agent_id, recipe_id) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING`,
		p.CustomerID, p.AgentID, p.RecipeID)
	if sqlState(err) == stateForeignKey {
		return false, notFound("there is no agent %q: create it before its recipes", p.AgentID)
	}
	if err != nil {
		return false, fmt.Errorf("add recipe: %w", err)
	}
	err = tx.QueryRow(ctx, `SELECT latest FROM ingest.recipes WHERE customer_id = $1 AND agent_id = $2 AND recipe_id = $3 FOR UPDATE`,
		p.CustomerID, p.AgentID, p.RecipeID).Scan(&p.Latest)
	if err != nil {
		return false, fmt.Errorf("lock recipe: %w", err)
	}
	err = tx.QueryRow(ctx, `SELECT version, published_at FROM ingest.recipe_versions
		 WHERE customer_id = $1 AND agent_id = $2 AND recipe_id = $3 AND hash = $4`,
		p.CustomerID, p.AgentID, p.RecipeID, p.hash).Scan(&p.Version, &p.PublishedAt)
	if errors.Is(err, pgx.ErrNoRows) {
		p.Latest++
		p.Version = p.Latest
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("look for the same content: %w", err)
	}
	return false, nil
}

// publish stores the version. The bucket is written last, and only over the revision that was read at first: the statements between
// the two prove that this transaction held the recipe's lock after the reading, so a process that was cut off from the database
// cannot overwrite what the next holder of the lock has written.
func (c *Catalogue) publish(ctx context.Context, tx pgx.Tx, p *publication, author Author) error {
	key := subject.RecipeKey(p.CustomerID, p.AgentID, p.RecipeID, p.Version)
	leftover, err := p.leftover(ctx, key)
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, `INSERT INTO ingest.recipe_versions
		       (customer_id, agent_id, recipe_id, version, hash, description, document, published_at)
		VALUES ($1, $2, $3, $4, $5, $6, $7, $8)`,
		p.CustomerID, p.AgentID, p.RecipeID, p.Version, p.hash, p.Description, []byte(p.Document), p.PublishedAt)
	if err != nil {
		return fmt.Errorf("add version: %w", err)
	}
	_, err = tx.Exec(ctx, `UPDATE ingest.recipes SET latest = $4 WHERE customer_id = $1 AND agent_id = $2 AND recipe_id = $3`,
		p.CustomerID, p.AgentID, p.RecipeID, p.Version)
	if err != nil {
		return fmt.Errorf("set latest version: %w", err)
	}
	entry := activity.Entry{
		Customer: p.CustomerID, Action: event.ActionRecipePublished, ResourceID: p.AgentID + "/" + p.RecipeID, Author: author,
		After: map[string]any{"version": p.Version, "content_hash": p.Hash},
	}
	if p.Version > 1 {
		entry.Before = map[string]any{"version": p.Version - 1}
	}
	if err := c.record(ctx, tx, entry); err != nil {
		return err
	}
	if leftover == nil {
		_, err = p.bucket.Create(ctx, key, p.Document)
	} else if !bytes.Equal(leftover.Value(), p.Document) {
		_, err = p.bucket.Update(ctx, key, p.Document, leftover.Revision())
	}
	if err != nil {
		return fmt.Errorf("put version into bucket: %w", err)
	}
	return nil
}

// leftover is what a publication that was not committed left under the key, nil for nothing.
func (p *publication) leftover(ctx context.Context, key string) (jetstream.KeyValueEntry, error) {
	entry, err := p.bucket.Get(ctx, key)
	if errors.Is(err, jetstream.ErrKeyNotFound) {
		return nil, nil //nolint:nilnil // nothing is an answer
	}
	if err != nil {
		return nil, fmt.Errorf("read bucket: %w", err)
	}
	return entry, nil
}

const versionColumns = `v.customer_id, v.agent_id, v.recipe_id, v.version, r.latest, v.description, encode(v.hash, 'hex'), v.published_at`

const versionJoin = ` FROM ingest.recipes r JOIN ingest.recipe_versions v USING (customer_id, agent_id, recipe_id)`

func (v *RecipeVersion) targets() []any {
	return []any{
		&v.CustomerID, &v.AgentID, &v.RecipeID, &v.Version, &v.Latest, &v.Description, &v.Hash, &v.PublishedAt,
	}
}

// Recipe gives a version of a recipe with its document; version 0 is the latest. agent may be empty where only one of the customer's
// agents has a recipe of that id.
func (c *Catalogue) Recipe(ctx context.Context, customer, agent, id string, version int) (RecipeVersion, error) {
	var found []RecipeVersion
	err := postgres.Query(ctx, c.pool, customer, func(batch *pgx.Batch) {
		batch.Queue(`SELECT `+versionColumns+`, v.document`+versionJoin+`
			 WHERE customer_id = $1 AND ($2 = '' OR agent_id = $2) AND recipe_id = $3
			   AND v.version = CASE $4::integer WHEN 0 THEN r.latest ELSE $4 END LIMIT 2`,
			customer, agent, id, version).Query(func(rows pgx.Rows) (err error) {
			found, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (v RecipeVersion, err error) {
				err = row.Scan(append(v.targets(), (*[]byte)(&v.Document))...)
				return v, err
			})
			return err
		})
	})
	switch {
	case err != nil:
		return RecipeVersion{}, failure("read recipe", err)
	case len(found) == 0:
		return RecipeVersion{}, unknownRecipe(agent, id, version)
	case len(found) > 1:
		return RecipeVersion{}, conflict("several agents have a recipe %q: name one as agent_id", id)
	}
	return found[0], nil
}

func unknownRecipe(agent, id string, version int) error {
	whose := "there is "
	if agent != "" {
		whose = fmt.Sprintf("agent %q has ", agent)
	}
	if version != 0 {
		return notFound("%sno version %d of a recipe %q", whose, version, id)
	}
	return notFound("%sno recipe %q", whose, id)
}

// RecipeList selects a page of recipes.
type RecipeList struct {
	Customer string
	// Agent is empty for every agent's.
	Agent string
	// AfterAgent and AfterRecipe are the last recipe of the page before; empty for the first page.
	AfterAgent, AfterRecipe string
	Limit                   int
}

// Recipes lists the latest versions of a customer's recipes, by agent and id.
func (c *Catalogue) Recipes(ctx context.Context, list RecipeList) (page []RecipeVersion, more bool, err error) {
	err = postgres.Query(ctx, c.pool, list.Customer, func(batch *pgx.Batch) {
		batch.Queue(`SELECT `+versionColumns+versionJoin+`
			 WHERE customer_id = $1 AND ($2 = '' OR agent_id = $2) AND v.version = r.latest AND (agent_id, recipe_id) > ($3, $4)
			 ORDER BY agent_id, recipe_id LIMIT $5`,
			list.Customer, list.Agent, list.AfterAgent, list.AfterRecipe, list.Limit+1).Query(func(rows pgx.Rows) (err error) {
			page, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (v RecipeVersion, err error) {
				err = row.Scan(v.targets()...)
				return v, err
			})
			return err
		})
	})
	if err != nil {
		return nil, false, failure("list recipes", err)
	}
	if len(page) > list.Limit {
		return page[:list.Limit], true, nil
	}
	return page, false, nil
}
