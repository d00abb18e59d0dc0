package recipe

import (
	"slices"
	"time"

	"github.com/galley-engine/galley/schemas/problem"
)

// Retry says how often and how soon a step is tried again after a retryable error. The delay before attempt n+1 is
// Initial · Multiplier^(n-1), at most Max; with Jitter a random part of it.
type Retry struct {
	// MaxAttempts counts the first attempt: 1 means never again.
	MaxAttempts int
	Initial     time.Duration
	Max         time.Duration
	Multiplier  float64
	Jitter      bool
	// On holds the codes after which the step is tried again; empty means every retryable one.
	On []problem.Code
}

// Applies reports whether the policy tries again after a retryable error with this code.
func (r Retry) Applies(code string) bool {
	return len(r.On) == 0 || slices.Contains(r.On, problem.Code(code))
}

// RetryCodes are the codes of failures after which another attempt may succeed.
func RetryCodes() []problem.Code {
	return []problem.Code{
		problem.Timeout, problem.RateLimited, problem.Upstream5xx, problem.Connection, problem.CircuitOpen, problem.Unavailable,
		problem.ModelOutputInvalid, problem.WorkerUnavailable, problem.WorkerLost,
	}
}

func defaultRetry() Retry {
	return Retry{MaxAttempts: 3, Initial: 500 * time.Millisecond, Max: 20 * time.Second, Multiplier: 2, Jitter: true}
}

// retry overrides the fields of target that the document names.
func (d *decoder) retry(n *node, target *Retry) {
	if n == nil || !d.object(n, "max_attempts", "initial", "max", "multiplier", "jitter", "on") {
		return
	}
	d.count(n.field("max_attempts"), MaxAttempts, &target.MaxAttempts)
	d.duration(n.field("initial"), MaxRetryDelay, &target.Initial)
	d.duration(n.field("max"), MaxRetryDelay, &target.Max)
	if f := n.field("multiplier"); f != nil {
		target.Multiplier = d.number(f, 1, 10)
	}
	if f := n.field("jitter"); f != nil && d.is(f, kindBool) {
		target.Jitter = f.truth
	}
	if f := n.field("on"); f != nil && d.is(f, kindList) {
		target.On = nil
		var codes []string
		for _, code := range RetryCodes() {
			codes = append(codes, string(code))
		}
		for _, item := range f.items {
			code := d.oneOf(item, codes...)
			target.On = append(target.On, problem.Code(code))
		}
	}
	if target.Initial > target.Max {
		d.report(CodeInvalidValue, n, "initial (%s) is longer than max (%s)", target.Initial, target.Max)
	}
}
