package recipe

import (
	"strings"
	"time"
)

// entrySpec is one entry of a list of steps: a step, or branches that run at the same time.
type entrySpec struct {
	step     *stepSpec
	branches [][]entrySpec
}

// stepSpec is a step as it is written, with the defaults of the document and of the engine filled in.
type stepSpec struct {
	id         string
	uses       Kind
	condition  *node
	forEach    *forEachSpec
	with       *node
	timeout    time.Duration
	retry      Retry
	onError    OnError
	price      Price
	checkpoint bool
}

type forEachSpec struct {
	in *node
	// name is "" where it is not known.
	name                  string
	nameAt                *node
	maxItems, maxParallel int
}

// writes are the fields of the state that the step writes.
func (s *stepSpec) writes() []field {
	if s.with == nil {
		return nil
	}
	switch s.uses {
	case KindStateSet, KindStateMerge:
		return s.with.fields
	case KindStateDelete:
		var fields []field
		if list := s.with.field("fields"); list != nil {
			for _, name := range list.items {
				fields = append(fields, field{key: name.text, line: name.line, col: name.col, value: name})
			}
		}
		return fields
	default:
		return nil
	}
}

// eachStep goes through the steps in the order of the document.
func eachStep(entries []entrySpec, visit func(step *stepSpec)) {
	for _, entry := range entries {
		if entry.step != nil {
			visit(entry.step)
		}
		for _, branch := range entry.branches {
			eachStep(branch, visit)
		}
	}
}

// stepReader reads the steps of one document.
type stepReader struct {
	*decoder
	doc      *document
	defaults stepSpec
	ids      map[string]bool
}

func (d *decoder) steps(doc *document, list *node, defaults stepSpec) {
	if steps := countSteps(list); steps > MaxSteps {
		d.report(CodeLimitExceeded, list, "a recipe has at most %d steps, this one has %d", MaxSteps, steps)
		doc.incomplete = true
		return
	}
	r := &stepReader{decoder: d, doc: doc, defaults: defaults, ids: make(map[string]bool)}
	doc.steps = r.entries(list, 0)
}

func countSteps(list *node) int {
	steps := 0
	for _, entry := range list.items {
		group := entry.field("parallel")
		if group == nil {
			steps++
			continue
		}
		for _, branch := range group.items {
			if inner := branch.field("steps"); inner != nil {
				steps += countSteps(inner)
			} else {
				steps++
			}
		}
	}
	return steps
}

// entries reads a list of steps that lies in this many parallel groups.
func (r *stepReader) entries(list *node, groups int) []entrySpec {
	if len(list.items) == 0 {
		r.report(CodeInvalidValue, list, "there must be at least one step")
	}
	var entries []entrySpec
	for _, item := range list.items {
		if item.field("parallel") != nil {
			entries = append(entries, entrySpec{branches: r.parallel(item, groups)})
		} else {
			entries = append(entries, r.step(item)...)
		}
	}
	return entries
}

func (r *stepReader) parallel(n *node, groups int) [][]entrySpec {
	r.object(n, "parallel")
	list := n.field("parallel")
	if !r.is(list, kindList) {
		r.doc.incomplete = true
		return nil
	}
	if groups == maxGroups {
		r.report(CodeLimitExceeded, list, "a parallel group may lie in a branch of another one, but no deeper")
		r.doc.incomplete = true
		return nil
	}
	if branches := len(list.items); branches < 2 || branches > MaxBranches {
		r.report(CodeInvalidValue, list, "a parallel group has from 2 to %d branches, not %d", MaxBranches, branches)
	}
	var branches [][]entrySpec
	for _, item := range list.items {
		branches = append(branches, r.branch(item, groups+1))
	}
	return branches
}

func (r *stepReader) branch(n *node, groups int) []entrySpec {
	switch inner := n.field("steps"); {
	case n.field("parallel") != nil:
		r.report(CodeInvalidValue, n, "a branch is a step, or a list of them: {steps: [...]}; a parallel group belongs into such a list")
	case inner == nil:
		return r.step(n)
	case r.object(n, "steps") && r.is(inner, kindList):
		return r.entries(inner, groups)
	}
	r.doc.incomplete = true
	return nil
}

// step returns one entry, or none for what is no step.
func (r *stepReader) step(n *node) []entrySpec {
	if !r.object(n, "id", "uses", "with", "if", "foreach", "timeout", "retry", "on_error", "price", "checkpoint") {
		r.doc.incomplete = true
		return nil
	}
	step := r.defaults
	step.id = r.id(r.required(n, "id"))
	if step.id != "" && r.ids[step.id] {
		r.report(CodeDuplicateID, n.field("id"), "there is a step %q already", step.id)
	}
	r.ids[step.id] = true
	if uses := r.required(n, "uses"); uses != nil {
		step.uses = r.kind(uses)
	}
	step.condition = r.optional(n.field("if"), kindString)
	step.with = r.optional(r.required(n, "with"), kindObject)
	step.forEach = r.forEach(n.field("foreach"))
	r.patience(n, &step)
	r.onError(n.field("on_error"), &step.onError)
	if f := n.field("price"); f != nil {
		step.price = r.price(f, &step)
	}
	r.mustCharge(n, &step)
	if f := r.optional(n.field("checkpoint"), kindBool); f != nil {
		step.checkpoint = f.truth
	}
	return []entrySpec{{step: &step}}
}

// patience reads how long and how often a step is tried. The defaults of the document are meant for calls: a step that waits is not
// tried again, and says in its input how long it waits.
func (r *stepReader) patience(n *node, step *stepSpec) {
	timeout, retry := n.field("timeout"), n.field("retry")
	if component := r.components.component(step.uses); component == nil || !component.Waits {
		r.duration(timeout, MaxTimeout, &step.timeout)
		r.retry(retry, &step.retry)
		return
	}
	step.timeout, step.retry = MaxTimeout, Retry{MaxAttempts: 1}
	if retry != nil {
		r.report(CodeUnknownField, retry, "%s is not tried again: remove retry", step.uses)
	}
	switch {
	case step.uses == KindRecipeRun:
		r.duration(timeout, MaxTimeout, &step.timeout)
	case timeout != nil && (step.uses == KindWaitEvent || step.uses == KindApproval):
		r.report(CodeUnknownField, timeout, "how long %s waits is said by timeout inside with", step.uses)
	case timeout != nil:
		r.report(CodeUnknownField, timeout, "how long %s waits is said inside with: remove timeout", step.uses)
	}
}

func (r *stepReader) forEach(n *node) *forEachSpec {
	if n == nil {
		return nil
	}
	spec := &forEachSpec{maxItems: DefaultMaxItems, maxParallel: DefaultMaxParallel}
	if !r.object(n, "in", "as", "max_items", "max_parallel") {
		return spec
	}
	spec.in = r.optional(r.required(n, "in"), kindString)
	if spec.nameAt = r.optional(r.required(n, "as"), kindString); spec.nameAt != nil {
		if spec.name = spec.nameAt.text; !isIdentifier(spec.name) {
			r.report(CodeInvalidValue, spec.nameAt, "%q cannot be a name: a letter or _, then up to 62 letters, digits and _", spec.name)
			spec.name = ""
		}
	}
	r.count(n.field("max_items"), MaxItems, &spec.maxItems)
	r.count(n.field("max_parallel"), MaxParallel, &spec.maxParallel)
	return spec
}

// isIdentifier reports whether s is [A-Za-z_][A-Za-z0-9_]{0,62}, which CEL takes for a name unless it is one of its words.
func isIdentifier(s string) bool {
	return s != "" && isID("a"+s) && !strings.Contains(s, "-") && (s[0] < '0' || s[0] > '9')
}

// onError sets target when n is there.
func (d *decoder) onError(n *node, target *OnError) {
	if n != nil {
		*target = OnError(d.oneOf(n, string(OnErrorFail), string(OnErrorContinue)))
	}
}

func (d *decoder) kind(n *node) Kind {
	if !d.is(n, kindString) {
		return ""
	}
	kind := Kind(n.text)
	if d.components.component(kind) == nil {
		d.report(CodeUnknownKind, n, "there is no kind %q; there are %s", n.text, d.components.kindNames())
		return ""
	}
	return kind
}
