package recipe

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/ast"
)

// Compiler turns documents into recipes. It holds what all of them share, above all the CEL environment: make one for a process.
// It is safe for concurrent use.
type Compiler struct {
	env             *cel.Env
	intrinsics      map[string]intrinsic
	implementations map[string]implementation
	components      map[Kind]*Component
}

// NewCompiler builds a compiler. An error is a defect of this package.
func NewCompiler() (*Compiler, error) {
	env, err := newEnvironment()
	if err != nil {
		return nil, err
	}
	c := &Compiler{env: env, intrinsics: newIntrinsics()}
	if c.implementations, err = implementations(env, c.intrinsics); err != nil {
		return nil, fmt.Errorf("find the functions of CEL: %w", err)
	}
	c.components, err = readComponents()
	return c, err
}

// Load reads a recipe document, YAML or JSON, and checks everything that can be known before it runs. The error is [Problems]:
// everything that is wrong, in the order of the lines.
func (c *Compiler) Load(doc []byte) (*Recipe, error) {
	document, problems := c.parse(doc)
	if document == nil {
		return nil, problems.err()
	}
	k := &compilation{
		Compiler: c, reader: &reader{problems: problems}, names: newNames(c.env, document), timeout: document.timeout,
		itemEnvs: make(map[string]*cel.Env),
	}
	recipe := k.recipe(document)
	if err := k.problems.err(); err != nil {
		return nil, err
	}
	return recipe, nil
}

// compilation is the state of compiling one document.
type compilation struct {
	*Compiler
	*reader
	// names are those of the place that is being compiled.
	names *names
	// steps are those that are done, timeout is that of the recipe.
	steps   []*Step
	timeout time.Duration
	// itemEnvs holds the CEL environments with the item of a foreach, by its name.
	itemEnvs map[string]*cel.Env
	// complexity is that of all expressions so far: the number of nodes times the depth of each tree.
	complexity int
}

func (k *compilation) recipe(document *document) *Recipe {
	recipe := &Recipe{
		Agent: document.agent, ID: document.id, Description: document.description, Timeout: document.timeout, Concurrency: document.concurrency,
		CreditWait: document.creditWait, input: k.schema(document.input), output: k.schema(document.output), canonical: document.canonical(),
	}
	recipe.Stages = k.stages(document.steps)
	recipe.Steps = k.steps
	recipe.indexes = make(map[string]int, len(recipe.Steps))
	for i, step := range recipe.Steps {
		step.Index, recipe.indexes[step.ID] = i, i
	}
	if document.result != nil {
		recipe.Result = &Template{root: k.template(document.result)}
	}
	recipe.VarsUsed = slices.Sorted(maps.Keys(k.names.vars))
	if quote := recipe.Quote(); document.maxCreditsAt != nil && quote > document.maxCredits {
		k.report(CodePriceAboveMax, document.maxCreditsAt,
			"the steps cost up to %s credits, max_credits allows %s", quote, document.maxCredits)
	}
	return recipe
}

// sole takes one expression and nothing around it.
func (k *compilation) sole(n *node, want *cel.Type, otherwise string) *expression {
	segments, err := splitTemplate(n.text)
	if err != nil {
		k.report(CodeInvalidTemplate, n, "%v", err)
		return nil
	}
	source, ok := soleExpression(segments)
	if !ok {
		k.report(CodeInvalidExpression, n, "%s", otherwise)
		return nil
	}
	return k.expression(n, source, want)
}

// template compiles a value. A subtree without expressions becomes one constant.
func (k *compilation) template(n *node) part {
	switch n.kind {
	case kindString:
		return k.text(n)
	case kindList:
		parts := make(listPart, len(n.items))
		values := make([]any, len(n.items))
		fixed := true
		for i, item := range n.items {
			parts[i] = k.template(item)
			literal, ok := parts[i].(constant)
			fixed = fixed && ok
			values[i] = literal.value
		}
		if fixed {
			return constant{values}
		}
		return parts
	case kindObject:
		parts := make(objectPart, 0, len(n.fields))
		values := make(map[string]any, len(n.fields))
		fixed := true
		for _, f := range n.fields {
			value := k.template(f.value)
			parts = append(parts, objectField{key: f.key, value: value})
			literal, ok := value.(constant)
			fixed = fixed && ok
			values[f.key] = literal.value
		}
		if fixed {
			return constant{values}
		}
		return parts
	case kindNull, kindBool, kindNumber, kindRefused:
	}
	return constant{n.native()}
}

func (k *compilation) text(n *node) part {
	segments, err := splitTemplate(n.text)
	if err != nil {
		k.report(CodeInvalidTemplate, n, "%v", err)
		return constant{}
	}
	if len(segments) == 1 && !segments[0].isExpression {
		return constant{segments[0].text}
	}
	if source, ok := soleExpression(segments); ok {
		return k.expression(n, source, nil)
	}
	text := textPart{path: n.path()}
	for _, s := range segments {
		if s.isExpression {
			text.segments = append(text.segments, textSegment{expression: k.expression(n, s.text, nil)})
		} else {
			text.segments = append(text.segments, textSegment{literal: s.text})
		}
	}
	return text
}

// expression compiles and checks the source of one "${…}". want is nil when every type will do.
func (k *compilation) expression(n *node, source string, want *cel.Type) *expression {
	compiled := &expression{source: source, path: n.path()}
	report := func(code ProblemCode, format string, args ...any) {
		k.report(code, n, "%s", compiled.describe(fmt.Sprintf(format, args...)))
	}
	checked, shape, faults := k.check(source)
	for _, f := range faults {
		report(f.code, "%s", f.message)
	}
	if len(faults) > 0 {
		return compiled
	}
	if output := checked.OutputType(); want != nil && output.Kind() != want.Kind() && output.Kind() != cel.DynKind {
		report(CodeInvalidExpression, "must be a %s, not a %s", want.TypeName(), output)
	}
	walk := inspection{names: k.names, report: report}
	walk.visit(checked.NativeRep().Expr())
	compiled.loops, compiled.secret = shape.loops, walk.readsSecret
	var err error
	if compiled.program, err = k.program(checked); err != nil {
		report(CodeInvalidExpression, "%v", err)
	}
	return compiled
}

// fault is what CEL has against an expression.
type fault struct {
	code    ProblemCode
	message string
}

func (k *compilation) faultsOf(issues *cel.Issues) []fault {
	var faults []fault
	for _, issue := range issues.Errors() {
		message := issue.Message
		for _, hidden := range k.names.hidden {
			if strings.HasPrefix(message, "undeclared reference to '"+hidden+"'") {
				message = hidden + " is in scope inside with only: this here is evaluated once, before there are items"
			}
		}
		faults = append(faults, fault{CodeInvalidExpression, fmt.Sprintf("%s (at %s)", message, at(issue.Location))})
	}
	return faults
}

// check parses an expression and checks its types. The time for the latter grows faster than the length and the nesting, so it
// looks at those in between.
func (k *compilation) check(source string) (*cel.Ast, treeShape, []fault) {
	var shape treeShape
	parsed, issues := k.names.env.Parse(source)
	if faults := k.faultsOf(issues); len(faults) > 0 {
		return nil, shape, faults
	}
	shape.measure(ast.NavigateAST(parsed.NativeRep()), 1)
	if k.complexity += shape.nodes * shape.depth; k.complexity > maxComplexity {
		return nil, shape, []fault{{CodeLimitExceeded, "the expressions of the recipe are too long or too deeply nested up to here"}}
	}
	checked, issues := k.names.env.Check(parsed)
	return checked, shape, k.faultsOf(issues)
}

// treeShape is what the time to check an expression depends on. CEL writes filter, map, sortBy, bind and the like as loops, and
// one that is applied to the result of another is nested in its tree.
type treeShape struct {
	nodes, depth int
	loops        bool
}

func (s *treeShape) measure(e ast.NavigableExpr, depth int) {
	s.nodes++
	s.depth = max(s.depth, depth)
	s.loops = s.loops || e.Kind() == ast.ComprehensionKind
	for _, child := range e.Children() {
		s.measure(child, depth+1)
	}
}

func (k *compilation) program(checked *cel.Ast) (cel.Program, error) {
	return k.names.env.Program(checked,
		cel.EvalOptions(cel.OptOptimize),
		cel.CostTracking(costModel{}),
		cel.CostLimit(maxCost),
		cel.InterruptCheckFrequency(interruptEvery),
		cel.CustomDecoratorV2(k.intercept),
	)
}
