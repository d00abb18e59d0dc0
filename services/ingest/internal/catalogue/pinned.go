package catalogue

import "github.com/galley-engine/galley/pkg/recipe"

// Pinned is everything that an execution takes from the catalogue at the moment it is accepted.
type Pinned struct {
	Recipe  *recipe.Recipe
	Version int
	// Vars are those of the customer's settings that the recipe reads.
	Vars map[string]any
	// MaxConcurrency is the customer's limit of executions under way at the same time, 0 for none.
	MaxConcurrency int
}
