package recipe

import (
	"fmt"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/ext"
)

// The names that are in scope of every expression.
const (
	nameInput     = "input"
	nameState     = "state"
	nameSteps     = "steps"
	nameVars      = "vars"
	nameExecution = "execution"
	nameSecrets   = "secrets"
	nameIndex     = "index"
)

func scopeNames() []string {
	return []string{nameInput, nameState, nameSteps, nameVars, nameExecution, nameSecrets}
}

// newEnvironment declares the scope and the functions. Which steps and vars exist differs from place to place and is checked
// on the syntax tree instead, so that one environment serves every expression of every recipe.
func newEnvironment() (*cel.Env, error) {
	object := cel.MapType(cel.StringType, cel.DynType)
	env, err := cel.NewEnv(
		cel.Variable(nameInput, object),
		cel.Variable(nameState, object),
		cel.Variable(nameSteps, cel.MapType(cel.StringType, object)),
		cel.Variable(nameVars, object),
		cel.Variable(nameExecution, cel.MapType(cel.StringType, cel.StringType)),
		cel.Variable(nameSecrets, object),
		cel.OptionalTypes(),
		ext.Strings(ext.StringsVersion(5), ext.StringsMaxPrecision(100)),
		ext.Lists(ext.ListsVersion(5), ext.ListsMaxRangeSize(100_000)),
		ext.Math(),
		ext.Sets(),
		// Version 1 has base64 and json.encode; later ones parse YAML, whose aliases multiply.
		ext.Encoders(ext.EncodersVersion(1)),
		ext.Bindings(),
		ext.TwoVarComprehensions(),
		cel.Function("sum", cel.MemberOverload("list_sum", []*cel.Type{cel.ListType(cel.DynType)}, cel.DynType, cel.UnaryBinding(sum))),
		cel.DefaultUTCTimeZone(true),
		cel.ParserExpressionSizeLimit(maxExpressionBytes),
		cel.ParserRecursionLimit(maxExpressionDepth),
		cel.ASTValidators(cel.ValidateRegexLiterals(), cel.ValidateDurationLiterals(), cel.ValidateTimestampLiterals()),
	)
	if err != nil {
		return nil, fmt.Errorf("build the CEL environment: %w", err)
	}
	return env, nil
}

// withItem adds the item of a foreach and its index. The index is a number of the scope like every other one, and so has no type
// that is known when the recipe is published.
func withItem(env *cel.Env, name string) (*cel.Env, error) {
	extended, err := env.Extend(cel.Variable(name, cel.DynType), cel.Variable(nameIndex, cel.DynType))
	if err != nil {
		return nil, fmt.Errorf("add %s to the CEL environment: %w", name, err)
	}
	return extended, nil
}

const (
	maxExpressionBytes = 10_000
	maxExpressionDepth = 50
	// maxComplexity (of a recipe) bounds the time that checking takes to a second or so. The example recipe has less than 1,000.
	maxComplexity   = 300_000
	maxRegexProgram = 200
)
