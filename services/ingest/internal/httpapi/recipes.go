package httpapi

import (
	"context"
	"net/http"
	"net/url"
	"strconv"

	"github.com/danielgtaylor/huma/v2"

	"github.com/galley-engine/galley/services/ingest/internal/catalogue"
)

func (a *API) registerRecipes(routes huma.API) {
	body := documented[map[string]any](routes, "application/json", "application/yaml")
	publish := huma.Operation{
		OperationID: "publish-recipe", Method: http.MethodPost, Path: prefix + "/recipes", Tags: []string{"recipes"},
		Summary: "Publish a recipe",
		Description: "The body is the recipe document; it names its agent and itself. Content that was published before is the version " +
			"that it was then (200), anything else is the next version (201).",
		Responses: response(http.StatusCreated, "A new version", documented[catalogue.RecipeVersion](routes, "application/json")),
	}
	register(a, routes, publish, body, a.publishRecipe)
	register(a, routes, huma.Operation{
		OperationID: "list-recipes", Method: http.MethodGet, Path: prefix + "/recipes", Tags: []string{"recipes"},
		Summary: "List recipes in their latest versions",
	}, nil, a.listRecipes)
	register(a, routes, huma.Operation{
		OperationID: "get-recipe", Method: http.MethodGet, Path: prefix + "/recipes/{recipe_id}", Tags: []string{"recipes"},
		Summary: "Get a version of a recipe",
	}, nil, a.getRecipe)
}

type publishRecipeInput struct {
	Scope
	JSONBody
}

type publishRecipeOutput struct {
	Status   int
	Location string `header:"Location"`
	Body     catalogue.RecipeVersion
}

func (a *API) publishRecipe(ctx context.Context, caller *caller, input *publishRecipeInput) (*publishRecipeOutput, error) {
	customer, err := input.customer(caller)
	if err != nil {
		return nil, err
	}
	// The reader of documents knows JSON from YAML by itself.
	err = input.checkType("application/json", "application/yaml", "application/x-yaml", "text/yaml", "text/x-yaml")
	if err != nil {
		return nil, err
	}
	published, isNew, err := a.catalogue.Publish(ctx, customer, input.RawBody, requestOf(ctx).author())
	if err != nil {
		return nil, err
	}
	query := url.Values{"agent_id": {published.AgentID}, "version": {strconv.Itoa(published.Version)}}
	return &publishRecipeOutput{
		Status: created(isNew), Location: prefix + "/recipes/" + published.RecipeID + "?" + query.Encode(), Body: published,
	}, nil
}

type listRecipesInput struct {
	Scope
	Paging
	AgentID id `query:"agent_id"`
}

// recipeCursor is the last recipe of a page.
type recipeCursor struct {
	Agent  string `json:"a"`
	Recipe string `json:"r"`
}

func (a *API) listRecipes(ctx context.Context, caller *caller, input *listRecipesInput) (*listOutput[catalogue.RecipeVersion], error) {
	customer, err := input.customer(caller)
	if err != nil {
		return nil, err
	}
	after, err := cursor[recipeCursor](&input.Paging)
	if err != nil {
		return nil, err
	}
	wanted := catalogue.RecipeList{Customer: customer, Agent: string(input.AgentID), Limit: input.Limit}
	if after != nil {
		wanted.AfterAgent, wanted.AfterRecipe = after.Agent, after.Recipe
	}
	items, more, err := a.catalogue.Recipes(ctx, wanted)
	if err != nil {
		return nil, err
	}
	var next *recipeCursor
	if more {
		last := items[len(items)-1]
		next = &recipeCursor{Agent: last.AgentID, Recipe: last.RecipeID}
	}
	return page(items, next)
}

type getRecipeInput struct {
	Scope
	RecipeID id  `path:"recipe_id"`
	AgentID  id  `query:"agent_id" doc:"Needed where several agents have a recipe of this id"`
	Version  int `query:"version" minimum:"1" maximum:"2147483647" doc:"The latest when absent"`
}

type recipeOutput struct{ Body catalogue.RecipeVersion }

func (a *API) getRecipe(ctx context.Context, caller *caller, input *getRecipeInput) (*recipeOutput, error) {
	customer, err := input.customer(caller)
	if err != nil {
		return nil, err
	}
	found, err := a.catalogue.Recipe(ctx, customer, string(input.AgentID), string(input.RecipeID), input.Version)
	if err != nil {
		return nil, err
	}
	return &recipeOutput{Body: found}, nil
}
