package recipe_test

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/galley-engine/galley/pkg/recipe"
)

func ExampleCompiler_Load() {
	compiler, err := recipe.NewCompiler()
	if err != nil {
		panic(err)
	}
	_, err = compiler.Load([]byte(`apiVersion: galley/v1
kind: Recipe
metadata: {agent: the-hunter, id: discovery}
spec:
  steps:
    - id: find
      uses: action.http
      with: {url: "${vars.directory_url}/search", querry: {q: "${input.search_query}"}}
      price: "0.0000001"
`))
	fmt.Println(err)
	// Output:
	// 8:59: /spec/steps/0/with/querry: is not a known property (UNKNOWN_FIELD)
	// 9:14: /spec/steps/0/price: "0.0000001" is not an amount of credits from 0 with at most six decimals (INVALID_PRICE)
}

func ExampleTemplate_Eval() {
	compiler, err := recipe.NewCompiler()
	if err != nil {
		panic(err)
	}
	r, err := compiler.Load([]byte(`
apiVersion: galley/v1
kind: Recipe
metadata: {agent: the-hunter, id: greeting}
spec:
  steps:
    - id: greet
      uses: state.set
      with:
        greeting: "Hello ${input.name}, you have ${input.count + 1} leads, which is $${more}"
        best: "${input.leads.filter(l, l.rating >= 4).sortBy(l, -l.rating)}"
`))
	if err != nil {
		panic(err)
	}
	scope := &recipe.Scope{Input: map[string]any{
		"name": "Ada", "count": 2.0,
		"leads": []any{
			map[string]any{"id": "a", "rating": 4.0}, map[string]any{"id": "b", "rating": 3.5}, map[string]any{"id": "c", "rating": 4.5},
		},
	}}
	with, err := r.Steps[0].With.Eval(context.Background(), scope)
	if err != nil {
		panic(err)
	}
	encoded, err := json.MarshalIndent(with, "", "  ")
	if err != nil {
		panic(err)
	}
	fmt.Println(string(encoded))
	// Output:
	// {
	//   "best": [
	//     {
	//       "id": "c",
	//       "rating": 4.5
	//     },
	//     {
	//       "id": "a",
	//       "rating": 4
	//     }
	//   ],
	//   "greeting": "Hello Ada, you have 3 leads, which is ${more}"
	// }
}
