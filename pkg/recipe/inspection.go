package recipe

import (
	"fmt"
	"slices"
	"strings"

	"cel.dev/cel-go/common"
	"cel.dev/cel-go/common/ast"
	"cel.dev/cel-go/common/operators"
	"cel.dev/cel-go/common/types"
)

// inspection walks over the syntax tree of an expression and checks what the type checker cannot know: which steps, vars, input
// fields and state fields exist at this place.
type inspection struct {
	names  *names
	report func(code ProblemCode, format string, args ...any)
	// readsSecret is a finding.
	readsSecret bool
}

func (w *inspection) visit(e ast.Expr) {
	if root, chain, ok := accessChain(e); ok {
		w.reference(root, chain)
		return
	}
	switch e.Kind() {
	case ast.SelectKind:
		w.visit(e.AsSelect().Operand())
	case ast.CallKind:
		w.call(e.AsCall())
	case ast.ListKind:
		for _, element := range e.AsList().Elements() {
			w.visit(element)
		}
	case ast.MapKind:
		for _, entry := range e.AsMap().Entries() {
			w.visit(entry.AsMapEntry().Key())
			w.visit(entry.AsMapEntry().Value())
		}
	case ast.ComprehensionKind:
		w.comprehension(e.AsComprehension())
	case ast.StructKind:
		for _, f := range e.AsStruct().Fields() {
			w.visit(f.AsStructField().Value())
		}
	case ast.IdentKind, ast.LiteralKind, ast.UnspecifiedExprKind:
	}
}

func (w *inspection) call(call ast.CallExpr) {
	if call.IsMemberFunction() {
		w.visit(call.Target())
	}
	for _, arg := range call.Args() {
		w.visit(arg)
	}
}

func (w *inspection) comprehension(c ast.ComprehensionExpr) {
	for _, name := range []string{c.IterVar(), c.IterVar2(), c.AccuVar()} {
		if w.names.taken(name) {
			w.report(CodeInvalidExpression, "%q is a name of the recipe: give the loop variable another one", name)
		}
	}
	for _, e := range []ast.Expr{c.IterRange(), c.AccuInit(), c.LoopCondition(), c.LoopStep(), c.Result()} {
		w.visit(e)
	}
}

// accessChain takes apart an access that begins at a name: steps["find"].output is steps with the chain find, output. The chain
// ends where a key is not known before the expression runs; what computes that key is not looked at here, so such an access is
// only taken apart up to it by the caller's walk.
func accessChain(e ast.Expr) (root string, chain []string, ok bool) {
	for {
		switch e.Kind() {
		case ast.IdentKind:
			slices.Reverse(chain)
			return strings.TrimPrefix(e.AsIdent(), "."), chain, true
		case ast.SelectKind:
			chain = append(chain, e.AsSelect().FieldName())
			e = e.AsSelect().Operand()
		case ast.CallKind:
			call := e.AsCall()
			if !slices.Contains([]string{operators.Index, operators.OptIndex, operators.OptSelect}, call.FunctionName()) {
				return "", nil, false
			}
			key, isLiteral := literalKey(call.Args()[1])
			if !isLiteral {
				return "", nil, false
			}
			chain = append(chain, key)
			e = call.Args()[0]
		default:
			return "", nil, false
		}
	}
}

func literalKey(e ast.Expr) (string, bool) {
	if e.Kind() != ast.LiteralKind {
		return "", false
	}
	key, ok := e.AsLiteral().(types.String)
	return string(key), ok
}

func (w *inspection) reference(root string, chain []string) {
	first := ""
	if len(chain) > 0 {
		first = chain[0]
	}
	switch root {
	case nameInput:
		if declared := w.names.inputFields; first != "" && declared != nil && !declared[first] {
			w.report(CodeUnknownReference, "the input schema has no property %q", first)
		}
	case nameState:
		w.stateReference(first)
	case nameVars:
		if first == "" {
			w.report(CodeUnknownReference, "name the setting, as in vars.directory_url: only those that are named can be read")
			return
		}
		w.names.vars[first] = true
	case nameExecution:
		if first != "id" && first != "customer" {
			w.report(CodeUnknownReference, "there are execution.id and execution.customer")
		}
	case nameSecrets:
		w.secretReference(first)
	case nameSteps:
		w.stepReference(first, chain)
	}
}

func (w *inspection) stateReference(field string) {
	switch {
	case field == "":
	case w.names.racing[field]:
		w.report(CodeUnknownReference, "state.%s is written by a branch that runs at the same time", field)
	case !w.names.state[field] && !w.names.incomplete:
		w.report(CodeUnknownReference, "no earlier step writes state.%s", field)
	}
}

func (w *inspection) secretReference(name string) {
	switch {
	case !w.names.secretsAllowed:
		w.report(CodeUnknownReference, "secrets can be read only inside with of a step that calls somebody: everything else is written down")
	case name == "":
		w.report(CodeUnknownReference, "name the secret, as in secrets.api_key: only those that are named can be read")
	case !isSecretName(name):
		w.report(CodeUnknownReference, "%q is not the name of a secret: a letter, then up to 63 letters, digits and _", name)
	default:
		w.names.secrets[name] = true
		w.readsSecret = true
	}
}

func isSecretName(s string) bool {
	return isID(s) && !strings.Contains(s, "-") && (s[0] < '0' || s[0] > '9')
}

func (w *inspection) stepReference(id string, chain []string) {
	part := ""
	if len(chain) > 1 {
		part = chain[1]
	}
	step := w.names.allSteps[id]
	switch {
	case id == "":
		w.report(CodeUnknownReference, `name the step, as in steps.find.output or steps["my-step"].output`)
	case step == nil && w.names.incomplete:
	case step == nil:
		w.report(CodeUnknownReference, "there is no step %q", id)
	case !w.names.steps[id]:
		w.report(CodeUnknownReference, "the step %q has not run yet at this place", id)
	case part == "output" && step.forEach != nil:
		w.report(CodeUnknownReference, "the step %q has a foreach: read outputs, a list with the output of each item", id)
	case part == "outputs" && step.forEach == nil:
		w.report(CodeUnknownReference, "the step %q has no foreach: read output", id)
	case !slices.Contains([]string{"output", "outputs", "status", "error"}, part):
		w.report(CodeUnknownReference, "a step has output (outputs with a foreach), status and error: steps.%s.output", id)
	}
}

// at is a place inside an expression, for messages.
func at(l common.Location) string {
	if l.Line() <= 1 {
		return fmt.Sprintf("character %d", l.Column()+1)
	}
	return fmt.Sprintf("line %d, character %d", l.Line(), l.Column()+1)
}
