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
	// MaxSteps is the number of steps of a recipe, those in branches included.
	MaxSteps = 100
	// MaxBranches is the number of branches of a parallel group.
	MaxBranches = 16
	// MaxItems is the highest number of items of a foreach, MaxParallel how many of them may be under way at the same time.
	MaxItems    = 1000
	MaxParallel = 32
	// MaxConcurrency is the highest number of executions of a recipe under way at the same time that it may allow.
	MaxConcurrency = 1000
	// MaxProblems is how many problems are reported of one document.
	MaxProblems = 100
	// MaxTimeout is the longest time-out of a recipe and of a step, and the longest wait.
	MaxTimeout = 24 * time.Hour
	// MaxAttempts is the highest number of attempts of a step.
	MaxAttempts = 20
	// MaxRetryDelay is the longest delay between two attempts.
	MaxRetryDelay = time.Hour

	// maxAmount, which also bounds the price of all items of a foreach, keeps the sum of all prices far inside 64 bits.
	maxAmount = 1_000_000_000 * credit.One
	// maxGroups is how deep parallel groups may lie in one another.
	maxGroups       = 2
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
	// DefaultMaxItems and DefaultMaxParallel bound a foreach.
	DefaultMaxItems    = 100
	DefaultMaxParallel = 4
)

// document is a recipe document whose shape has been checked. The nodes hold what is still to be compiled; each is nil where the
// document has none.
type document struct {
	agent         string
	id            string
	description   string
	input, output *node
	timeout       time.Duration
	concurrency   int
	creditWait    time.Duration
	// maxCredits is what maxCreditsAt says.
	maxCredits   credit.Micro
	maxCreditsAt *node
	steps        []entrySpec
	result       *node
	root         *node
	// incomplete says that there are steps that are too broken to look into, so that nothing can be said about references to what
	// they provide.
	incomplete bool
}

// parse returns a document also when it has problems, as long as there is something in it to compile; else nil.
func (c *Compiler) parse(doc []byte) (*document, Problems) {
	r := &reader{}
	root := r.read(doc)
	if root == nil {
		return nil, r.problems
	}
	d := &decoder{reader: r, components: c}
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
	if !d.object(spec, "input", "output", "timeout", "concurrency", "on_insufficient_credits", "credit_wait", "max_credits", "defaults", "steps", "result") {
		return
	}
	doc.input = d.optional(spec.field("input"), kindObject)
	doc.output = d.optional(spec.field("output"), kindObject)
	doc.result = spec.field("result")
	d.duration(spec.field("timeout"), MaxTimeout, &doc.timeout)
	d.count(spec.field("concurrency"), MaxConcurrency, &doc.concurrency)
	doc.creditWait = d.creditWait(spec, doc.timeout)
	if doc.maxCreditsAt = spec.field("max_credits"); doc.maxCreditsAt != nil {
		doc.maxCredits = d.amount(doc.maxCreditsAt)
	}

	defaults := stepSpec{timeout: DefaultStepTimeout, retry: defaultRetry(), onError: OnErrorFail}
	if n := spec.field("defaults"); n != nil && d.object(n, "timeout", "retry", "on_error") {
		d.duration(n.field("timeout"), MaxTimeout, &defaults.timeout)
		d.retry(n.field("retry"), &defaults.retry)
		d.onError(n.field("on_error"), &defaults.onError)
	}
	if list := d.required(spec, "steps"); list != nil && d.is(list, kindList) {
		d.steps(doc, list, defaults)
	}
}

// creditWait is how long an execution waits for credits: whoever is given them late has its whole time-out left before its deadline.
func (d *decoder) creditWait(spec *node, timeout time.Duration) (wait time.Duration) {
	mode, limit := spec.field("on_insufficient_credits"), spec.field("credit_wait")
	if mode == nil || d.oneOf(mode, "fail", "wait") != "wait" {
		if limit != nil {
			d.report(CodeInvalidValue, limit, "needs on_insufficient_credits: wait")
		}
		return 0
	}
	longest := MaxTimeout - timeout
	if longest == 0 {
		d.report(CodeInvalidValue, mode, "an execution ends after %s: a timeout of %s leaves no time to wait for credits", MaxTimeout, timeout)
		return 0
	}
	wait = longest
	d.duration(limit, MaxTimeout, &wait)
	if wait > longest {
		d.report(CodeInvalidDuration, limit, "must be at most %s: with the timeout of %s it may not exceed %s", longest, timeout, MaxTimeout)
	}
	return wait
}
