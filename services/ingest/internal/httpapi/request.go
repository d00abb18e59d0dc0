package httpapi

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/url"
	"runtime/debug"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/rs/zerolog"

	"github.com/galley-engine/galley/pkg/traceparent"
	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/problem"
	"github.com/galley-engine/galley/schemas/subject"
	"github.com/galley-engine/galley/services/ingest/internal/catalogue"
)

const headerRequestID = "X-Request-Id"

// request is what is known of a request besides its content.
type request struct {
	// trace is a W3C traceparent: the caller's, or a new one.
	trace string
	// caller is set by guard.
	caller caller
}

type requestKey struct{}

// requestOf is never nil.
func requestOf(ctx context.Context) *request {
	if found, ok := ctx.Value(requestKey{}).(*request); ok {
		return found
	}
	return &request{}
}

func (r *request) traceID() string {
	if len(r.trace) < 35 {
		return ""
	}
	return r.trace[3:35]
}

func (r *request) author() catalogue.Author {
	return catalogue.Author{Actor: r.caller.actor(), Trace: r.trace}
}

// begin is the first handler of every request.
func (a *API) begin(ctx context.Context) fiber.Handler {
	return func(c *fiber.Ctx) (err error) {
		current := &request{trace: c.Get(event.HeaderTraceParent)}
		if !traceparent.Valid(current.trace) {
			current.trace = newTraceParent()
		}
		c.SetUserContext(context.WithValue(traceparent.With(ctx, current.trace), requestKey{}, current))
		c.Set(headerRequestID, current.traceID())
		c.Set(fiber.HeaderXContentTypeOptions, "nosniff")
		c.Set(fiber.HeaderCacheControl, "no-store")
		if a.log.GetLevel() <= zerolog.DebugLevel {
			began := a.clock()
			defer func() { a.logAccess(c, current, began, err) }()
		}
		defer func() {
			if panicked := recover(); panicked != nil {
				err = fmt.Errorf("panic: %v\n%s", panicked, debug.Stack())
			}
		}()
		// Huma parses the address again and takes for granted that this works.
		if _, err := url.Parse(c.OriginalURL()); err != nil {
			leaveBody(c)
			return malformed("the address of the request is not a valid URL")
		}
		if isUpload(c) {
			leaveBody(c)
		} else if err := takeBody(c); err != nil {
			leaveBody(c)
			return err
		}
		return c.Next()
	}
}

// logAccess comes before fail has answered an error.
func (a *API) logAccess(c *fiber.Ctx, current *request, began time.Time, err error) {
	status := c.Response().StatusCode()
	if err != nil {
		status = problemOf(err).Status
	}
	a.log.Debug().Str("method", c.Method()).Str("path", c.Path()).Int("status", status).
		Dur("took", a.clock().Sub(began)).Str("trace", current.traceID()).Msg("request")
}

// problemOf also knows Fiber's own errors.
func problemOf(err error) *Problem {
	if framework, ok := errors.AsType[*fiber.Error](err); ok {
		return ofFramework(framework)
	}
	return describe(err)
}

// fail writes errors that did not come from a Huma operation.
func (a *API) fail(c *fiber.Ctx, err error) error {
	// What is refused before begin was not read to its end: the connection closes while the rest is still on its way.
	if conn, ok := c.Context().Conn().(*lingering); ok && requestOf(c.UserContext()).trace == "" {
		conn.linger.Store(true)
	}
	p := a.finish(c.UserContext(), err)
	for name := range p.header {
		c.Set(name, p.header.Get(name))
	}
	if err := c.Status(p.Status).JSON(p); err != nil {
		return fmt.Errorf("write problem: %w", err)
	}
	c.Set(fiber.HeaderContentType, problemType)
	return nil
}

// caller is who makes a request: a customer by one of its API keys, or the operator.
type caller struct {
	operator bool
	customer string
	keyID    string
}

func (c *caller) actor() event.Actor {
	if c.operator {
		return event.Actor{Type: "operator", ID: "operator"}
	}
	return event.Actor{Type: "api_key", ID: c.keyID}
}

// requireOperator refuses customers.
func (c *caller) requireOperator() error {
	if !c.operator {
		return newProblem(problem.Forbidden, "only the operator may do this")
	}
	return nil
}

// actFor gives the customer that a request is about. A customer's key is good for that customer alone, who need not be named; the
// operator names one. place is where the name stands in the request.
func (c *caller) actFor(named string, place Place) (string, error) {
	switch {
	case named == "" && c.operator:
		place.Message = "the operator must name a customer"
		return "", invalid(place)
	case named == "":
		return c.customer, nil
	case !subject.ValidID(named):
		place.Message = subject.ErrInvalidID.Error()
		return "", invalid(place)
	case c.operator || named == c.customer:
		return named, nil
	}
	return "", newProblem(problem.Forbidden, "the API key belongs to another customer")
}

// newTraceParent starts a trace that is not sampled. Its ids need to be distinct, not secret.
func newTraceParent() string {
	var ids [24]byte
	for i := 0; i < len(ids); i += 8 {
		binary.LittleEndian.PutUint64(ids[i:], rand.Uint64()) //nolint:gosec // see above
	}
	encoded := hex.EncodeToString(ids[:])
	return "00-" + encoded[:32] + "-" + encoded[32:] + "-00"
}
