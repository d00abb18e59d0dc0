package usage

import (
	"encoding/json"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"
)

// version names a version of one of a customer's recipes.
type version struct {
	agent, recipe string
	number        int
}

// kindsOf has, for versions of a customer's recipes, the kinds of the steps by their ids.
type kindsOf map[version]map[string]string

// scan reads documents of versions. They are not compiled: one that no longer compiles has kinds all the same.
func (k kindsOf) scan(rows pgx.Rows) error {
	var v version
	var document pgtype.DriverBytes
	_, err := pgx.ForEachRow(rows, []any{&v.agent, &v.recipe, &v.number, &document}, func() (err error) {
		k[v], err = kindsIn(document)
		return err
	})
	return err
}

// entry is an entry of a list of steps: a step, or branches at the same time; a branch is a step too, or a list of its own.
type entry struct {
	ID       string  `json:"id"`
	Uses     string  `json:"uses"`
	Parallel []entry `json:"parallel"`
	Steps    []entry `json:"steps"`
}

func (e *entry) collect(kinds map[string]string) {
	if e.ID != "" {
		kinds[e.ID] = e.Uses
	}
	for _, inner := range [][]entry{e.Parallel, e.Steps} {
		for i := range inner {
			inner[i].collect(kinds)
		}
	}
}

// kindsIn reads the kinds of the steps out of the canonical document of a recipe.
func kindsIn(document []byte) (map[string]string, error) {
	var recipe struct {
		Spec entry `json:"spec"`
	}
	if err := json.Unmarshal(document, &recipe); err != nil {
		return nil, fmt.Errorf("decode a recipe: %w", err)
	}
	kinds := make(map[string]string)
	recipe.Spec.collect(kinds)
	return kinds, nil
}
