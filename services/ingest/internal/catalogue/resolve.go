package catalogue

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"

	"github.com/jackc/pgx/v5"

	"github.com/galley-engine/galley/pkg/postgres"
	"github.com/galley-engine/galley/pkg/recipe"
	"github.com/galley-engine/galley/schemas/problem"
)

// Resolve pins a recipe for an execution; version 0 is the latest. It is called for every execution and normally answers from memory,
// also while Postgres is away. NOT_FOUND names agent and recipe.
func (c *Catalogue) Resolve(ctx context.Context, customer, agent, id string, version int) (*Pinned, error) {
	if version > math.MaxInt32 {
		return nil, unknownRecipe(agent, id, version)
	}
	name := customer + "." + agent + "." + id
	if version == 0 {
		var err error
		version, err = c.latest.get(ctx, name, func(ctx context.Context) (int, error) {
			return c.readLatest(ctx, customer, agent, id)
		})
		if err != nil {
			return nil, err
		}
	}
	compiled, err := c.compiled(ctx, customer, agent, id, version)
	if err != nil {
		return nil, err
	}
	set, err := c.settingsOf(ctx, customer)
	if err != nil {
		return nil, err
	}
	pinned := &Pinned{Recipe: compiled, Version: version}
	if most := set.limits.Effective.MaxConcurrency; most != nil {
		pinned.MaxConcurrency = *most
	}
	if len(compiled.VarsUsed) == 0 {
		return pinned, nil
	}
	pinned.Vars = make(map[string]any, len(compiled.VarsUsed))
	for _, used := range compiled.VarsUsed {
		if value, found := set.vars[used]; found {
			pinned.Vars[used] = value
		}
	}
	return pinned, nil
}

// compiled gives a version of a recipe, normally from memory.
func (c *Catalogue) compiled(ctx context.Context, customer, agent, id string, version int) (*recipe.Recipe, error) {
	name := customer + "." + agent + "." + id + "." + strconv.Itoa(version)
	return c.versions.get(ctx, name, func(ctx context.Context) (*recipe.Recipe, error) {
		return c.readVersion(ctx, customer, agent, id, version)
	})
}

func (c *Catalogue) readLatest(ctx context.Context, customer, agent, id string) (latest int, err error) {
	err = postgres.Query(ctx, c.pool, customer, func(batch *pgx.Batch) {
		batch.Queue(`SELECT latest FROM ingest.recipes WHERE customer_id = $1 AND agent_id = $2 AND recipe_id = $3`,
			customer, agent, id).QueryRow(func(row pgx.Row) error { return row.Scan(&latest) })
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return 0, unknownRecipe(agent, id, 0)
	}
	if err != nil {
		return 0, failure("read latest version", err)
	}
	return latest, nil
}

func (c *Catalogue) readVersion(ctx context.Context, customer, agent, id string, version int) (*recipe.Recipe, error) {
	var document []byte
	err := postgres.Query(ctx, c.pool, customer, func(batch *pgx.Batch) {
		batch.Queue(`SELECT document FROM ingest.recipe_versions
			 WHERE customer_id = $1 AND agent_id = $2 AND recipe_id = $3 AND version = $4`,
			customer, agent, id, version).QueryRow(func(row pgx.Row) error { return row.Scan(&document) })
	})
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, unknownRecipe(agent, id, version)
	}
	if err != nil {
		return nil, failure("read version", err)
	}
	compiled, err := c.compiler.Load(document)
	if err != nil {
		// It did compile when it was published: another release of galley did that.
		return nil, fmt.Errorf("%w: %w", &problem.Error{
			Code: problem.Internal, Message: fmt.Sprintf("recipe %q version %d no longer compiles: publish it again", id, version),
		}, err)
	}
	return compiled, nil
}
