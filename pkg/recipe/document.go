package recipe

import (
	"time"
	"unicode/utf8"

	"github.com/galley-engine/galley/schemas/credit"
)

// The bounds of a document. They are part of the format: what one installation publishes, every other one accepts.
const (
	// MaxDocumentBytes is the size of the YAML or JSON text.
	MaxDocumentBytes = 256 << 10
	// MaxSteps is the number of steps of a recipe.
	MaxSteps = 100
	// MaxProblems is how many problems are reported of one document.
	MaxProblems = 100
	// MaxTimeout is the longest time-out of a recipe and of a step.
	MaxTimeout = 24 * time.Hour
	// MaxAttempts is the highest number of attempts of a step.
	MaxAttempts = 20
	// MaxRetryDelay is the longest delay between two attempts.
	MaxRetryDelay = time.Hour

	// maxAmount keeps the sum of all prices far inside 64 bits.
	maxAmount       = 1_000_000_000 * credit.One
	maxDepth        = 64
	maxDescription  = 2000
	maxExactInteger = 1 << 53
)

// The engine's defaults for what a document leaves out.
const (
	// DefaultTimeout bounds an execution.
	DefaultTimeout = 5 * time.Minute
	// DefaultStepTimeout bounds one attempt of a step.
	DefaultStepTimeout = 30 * time.Second
)

// document is a recipe document whose shape has been checked. The nodes hold what is still to be compiled; each is nil where the
// document has none.
type document struct {
	agent         string
	id            string
	description   string
	input, output *node
	timeout       time.Duration
	// maxCredits is what maxCreditsAt says.
	maxCredits   credit.Micro
	maxCreditsAt *node
	steps        []stepSpec
	result       *node
	root         *node
	// incomplete says that there are steps that this version cannot look into, so that nothing can be said about references to
	// what they provide.
	incomplete bool
}

// stepSpec is a step as it is written, with the defaults of the document and of the engine filled in.
type stepSpec struct {
	id         string
	uses       Kind
	condition  *node
	with       *node
	timeout    time.Duration
	retry      Retry
	onError    OnError
	price      credit.Micro
	checkpoint bool
}

// parse returns a document also when it has problems, as long as there is something in it to compile; else nil.
func parse(doc []byte) (*document, Problems) {
	r := &reader{}
	root := r.read(doc)
	if root == nil {
		return nil, r.problems
	}
	d := &decoder{reader: r}
	parsed := d.document(root)
	return parsed, r.problems
}

func (d *decoder) document(root *node) *document {
	if !d.object(root, "apiVersion", "kind", "metadata", "spec") {
		return nil
	}
	d.constant(root, "apiVersion", "galley/v1")
	d.constant(root, "kind", "Recipe")
	doc := &document{root: root, timeout: DefaultTimeout}

	if metadata := d.required(root, "metadata"); metadata != nil && d.object(metadata, "agent", "id", "description") {
		doc.agent = d.id(d.required(metadata, "agent"))
		doc.id = d.id(d.required(metadata, "id"))
		if n := metadata.field("description"); n != nil {
			doc.description = d.string(n)
			if utf8.RuneCountInString(doc.description) > maxDescription {
				d.report(CodeLimitExceeded, n, "a description has at most %d characters", maxDescription)
			}
		}
	}
	if spec := d.required(root, "spec"); spec != nil {
		d.spec(doc, spec)
	}
	return doc
}

func (d *decoder) spec(doc *document, spec *node) {
	if !d.object(spec, "input", "output", "timeout", "max_credits", "defaults", "steps", "result") {
		return
	}
	doc.input = d.optional(spec.field("input"), kindObject)
	doc.output = d.optional(spec.field("output"), kindObject)
	doc.result = spec.field("result")
	d.duration(spec.field("timeout"), MaxTimeout, &doc.timeout)
	if doc.maxCreditsAt = spec.field("max_credits"); doc.maxCreditsAt != nil {
		doc.maxCredits = d.amount(doc.maxCreditsAt)
	}

	defaults := stepSpec{timeout: DefaultStepTimeout, retry: defaultRetry(), onError: OnErrorFail}
	if n := spec.field("defaults"); n != nil && d.object(n, "timeout", "retry") {
		d.duration(n.field("timeout"), MaxTimeout, &defaults.timeout)
		d.retry(n.field("retry"), &defaults.retry)
	}
	if list := d.required(spec, "steps"); list != nil && d.is(list, kindList) {
		d.steps(doc, list, &defaults)
	}
}

func (d *decoder) steps(doc *document, list *node, defaults *stepSpec) {
	if len(list.items) == 0 {
		d.report(CodeInvalidValue, list, "a recipe has at least one step")
	}
	if len(list.items) > MaxSteps {
		d.report(CodeLimitExceeded, list, "a recipe has at most %d steps, this one has %d", MaxSteps, len(list.items))
		doc.incomplete = true
		return
	}
	ids := make(map[string]bool)
	for _, item := range list.items {
		step, ok := d.step(item, *defaults)
		if !ok {
			doc.incomplete = true
			continue
		}
		if step.id != "" && ids[step.id] {
			d.report(CodeDuplicateID, item.field("id"), "there is a step %q already", step.id)
		}
		ids[step.id] = true
		doc.steps = append(doc.steps, step)
	}
}

// step returns false for a step that only a later version understands, and for what is no step.
func (d *decoder) step(n *node, step stepSpec) (stepSpec, bool) {
	for _, later := range []string{"parallel", "foreach"} {
		if f := n.field(later); f != nil {
			d.reportAt(CodeNotSupported, f.path(), f.line, f.col, "%q is not supported yet", later)
			return step, false
		}
	}
	if !d.object(n, "id", "uses", "with", "if", "timeout", "retry", "on_error", "price", "checkpoint") {
		return step, false
	}
	step.id = d.id(d.required(n, "id"))
	if uses := d.required(n, "uses"); uses != nil {
		step.uses = d.kind(uses)
	}
	step.condition = d.optional(n.field("if"), kindString)
	step.with = d.optional(d.required(n, "with"), kindObject)
	d.duration(n.field("timeout"), MaxTimeout, &step.timeout)
	d.retry(n.field("retry"), &step.retry)
	if f := n.field("on_error"); f != nil {
		step.onError = OnError(d.oneOf(f, string(OnErrorFail), string(OnErrorContinue)))
	}
	if f := n.field("price"); f != nil {
		step.price = d.price(f)
	}
	if f := d.optional(n.field("checkpoint"), kindBool); f != nil {
		step.checkpoint = f.truth
	}
	return step, true
}

func (d *decoder) kind(n *node) Kind {
	if !d.is(n, kindString) {
		return ""
	}
	kind := Kind(n.text)
	switch {
	case kind.exists():
		return kind
	case kind.planned():
		d.report(CodeNotSupported, n, "the kind %q is not supported yet; there are %s", n.text, kindNames())
	default:
		d.report(CodeUnknownKind, n, "there is no kind %q; there are %s", n.text, kindNames())
	}
	return ""
}

// price is the fixed price of a step. The metered form belongs to kinds that measure what they use.
func (d *decoder) price(n *node) credit.Micro {
	if n.kind == kindObject {
		d.report(CodeNotSupported, n, "a metered price is not supported yet: give a fixed amount such as \"0.02\"")
		return 0
	}
	return d.amount(n)
}
