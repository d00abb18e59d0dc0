// Package call holds the messages between galley and the workers that run steps of the kinds worker.<name>. docs/workers.md says how they
// are used, schemas/json/worker-call.schema.json and worker-reply.schema.json what they look like.
package call

import (
	"encoding/json"
	"time"

	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/problem"
)

// Queue is the queue group in which the instances of a worker share its calls.
const Queue = "galley"

// Heartbeat is how often at least a worker gives a sign of life while it works.
const Heartbeat = 5 * time.Second

// MaxReply is the most that a reply with an output may be long, MaxSign the most of one that is only a sign of life.
const (
	MaxReply = 512 << 10
	MaxSign  = 8 << 10
)

// Headers of a call, besides event.HeaderTraceParent.
const (
	// HeaderKey is the same for all attempts of a step, whichever process makes them.
	HeaderKey = "Idempotency-Key"
	// HeaderControl names the subject on which whoever works on the call hears a Control.
	HeaderControl = "galley-call"
)

// Request asks a worker to run a step, or one item of it.
type Request struct {
	ExecutionID string `json:"execution_id"`
	CustomerID  string `json:"customer_id"`
	Step        string `json:"step"`
	// Item is the index in a foreach, absent without one.
	Item *int `json:"item,omitempty"`
	// Attempt counts from 1, and again from 1 when another process of galley takes the execution over.
	Attempt int `json:"attempt"`
	// Deadline is when galley stops waiting. TimeoutMS says the same as milliseconds from now, for clocks that differ.
	Deadline  time.Time `json:"deadline"`
	TimeoutMS int64     `json:"timeout_ms"`
	// Input is the step's with, filled in.
	Input json.RawMessage `json:"input"`
}

// Reply is what a worker sends to the reply subject of a call. One with Error or Output ends the call; Error wins where it has both. An
// empty message is a heartbeat as well.
type Reply struct {
	// Output is any JSON; nil when it is absent.
	Output json.RawMessage `json:"output,omitempty"`
	Error  *Failure        `json:"error,omitempty"`
	// Usage is what the call used, also when it failed.
	Usage *event.Usage `json:"usage,omitempty"`
	// Heartbeat says that the worker works on it.
	Heartbeat bool `json:"heartbeat,omitempty"`
	// Progress is a heartbeat with something to tell whoever watches the execution.
	Progress string `json:"progress,omitempty"`
	// Busy gives the call back: it is made again, to any instance.
	Busy bool `json:"busy,omitempty"`
}

// Failure is why a worker could not do its work.
type Failure struct {
	// Code is one of Codes, or the worker's own.
	Code    string `json:"code,omitempty"`
	Message string `json:"message"`
	// Retryable tells that another attempt may succeed.
	Retryable bool `json:"retryable,omitempty"`
}

// Codes are those that a worker's failure keeps; any other one becomes part of its message.
func Codes() []problem.Code {
	return []problem.Code{
		problem.ComponentError, problem.Connection, problem.Timeout, problem.RateLimited, problem.Upstream4xx, problem.Upstream5xx,
		problem.UpstreamRejected, problem.ModelOutputInvalid, problem.FileUnavailable, problem.StateTooLarge, problem.Unavailable,
	}
}

// Control is what whoever works on a call is told on its control subject.
type Control struct {
	// Attach asks to send the replies to the reply subject of this message as well, beginning with a heartbeat at once.
	Attach bool `json:"attach,omitempty"`
	// TimeoutMS, with Attach, is how long galley waits from now.
	TimeoutMS int64 `json:"timeout_ms,omitempty"`
	// Cancel says that nobody waits for the result any more.
	Cancel bool `json:"cancel,omitempty"`
	// Reason (with Cancel) is "timeout" or "cancelled".
	Reason string `json:"reason,omitempty"`
}

// Reasons for a cancel.
const (
	// ReasonTimeout: the step took longer than it may.
	ReasonTimeout = "timeout"
	// ReasonCancelled: the execution was ended, or what the worker sent was refused.
	ReasonCancelled = "cancelled"
)
