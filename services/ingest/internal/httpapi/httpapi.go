// Package httpapi is galley's HTTP interface: the API under /api/v1, its OpenAPI 3.1 document, and health. It authenticates, reads
// requests strictly, and answers every refusal with problem details (RFC 9457). What requests do is decided elsewhere: in packages
// accept, catalogue and projection, and in the services billing and audit, which are asked over NATS.
package httpapi

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/danielgtaylor/huma/v2/adapters/humafiber"
	"github.com/gofiber/fiber/v2"
	"github.com/rs/zerolog"

	"github.com/galley-engine/galley/pkg/bus"
	"github.com/galley-engine/galley/pkg/clock"
	"github.com/galley-engine/galley/pkg/file"
	"github.com/galley-engine/galley/pkg/health"
	"github.com/galley-engine/galley/schemas/subject"
	"github.com/galley-engine/galley/services/ingest/internal/accept"
	"github.com/galley-engine/galley/services/ingest/internal/activity"
	"github.com/galley-engine/galley/services/ingest/internal/catalogue"
	"github.com/galley-engine/galley/services/ingest/internal/control"
	"github.com/galley-engine/galley/services/ingest/internal/deadletter"
	"github.com/galley-engine/galley/services/ingest/internal/login"
	"github.com/galley-engine/galley/services/ingest/internal/projection"
	"github.com/galley-engine/galley/services/ingest/internal/schedule"
	"github.com/galley-engine/galley/services/ingest/internal/usage"
	"github.com/galley-engine/galley/services/ingest/internal/watch"
)

const (
	prefix = "/api/v1"

	maxBody     = 1 << 20
	maxHeaders  = 16 << 10
	readTimeout = 15 * time.Second
	idleTimeout = 75 * time.Second

	// maxLogged is how many failures are logged in a second.
	maxLogged = 20

	// When the server stops, callers who wait for an execution get its end if that comes soon, else 202.
	answerGrace = time.Second
	stopTimeout = 5 * time.Second
)

// Executor runs recipes.
type Executor interface {
	Execute(ctx context.Context, command accept.Command) (accept.Outcome, error)
}

// Executions tells how executions stand.
type Executions interface {
	Get(ctx context.Context, execution subject.Execution) (found projection.Execution, known bool, err error)
	List(ctx context.Context, filter projection.Filter) (page []projection.Execution, next *projection.Cursor, err error)
}

// Deps is what an API is given.
type Deps struct {
	Executor    Executor
	Quoter      Quoter
	Executions  Executions
	Usage       *usage.Reader
	Control     *control.Controller
	Catalogue   *catalogue.Catalogue
	Schedules   *schedule.Store
	Watch       *watch.Watch
	DeadLetters *deadletter.Desk
	Activities  *activity.Recorder
	Logins      *login.Log
	Bus         *bus.Bus
	// Checks are this service's own dependencies.
	Checks []health.Check
	// OperatorKey may act for every customer.
	OperatorKey string
	Clock       clock.Clock
	Log         zerolog.Logger
}

// API answers requests.
type API struct {
	executor     Executor
	quoter       Quoter
	executions   Executions
	usage        *usage.Reader
	control      *control.Controller
	catalogue    *catalogue.Catalogue
	schedules    *schedule.Store
	watch        *watch.Watch
	deadLetters  *deadletter.Desk
	activities   *activity.Recorder
	logins       *login.Log
	bus          *bus.Bus
	files        *file.Store
	transfers    *transfers
	checks       []health.Check
	operatorHash [sha256.Size]byte
	// watches holds a place for each watch.
	watches chan struct{}
	clock   clock.Clock
	log     zerolog.Logger
	// failures is log, except that an outage under load does not fill the disk.
	failures zerolog.Logger
}

// New makes an API.
func New(deps Deps) *API {
	return &API{
		executor: deps.Executor, quoter: deps.Quoter, executions: deps.Executions, usage: deps.Usage, control: deps.Control, catalogue: deps.Catalogue,
		schedules: deps.Schedules, watch: deps.Watch, deadLetters: deps.DeadLetters, activities: deps.Activities, logins: deps.Logins, bus: deps.Bus, checks: deps.Checks,
		files: file.NewStore(deps.Bus.JS), transfers: newTransfers(),
		watches:      make(chan struct{}, maxWatches),
		operatorHash: sha256.Sum256([]byte(deps.OperatorKey)), clock: deps.Clock, log: deps.Log,
		failures: deps.Log.Sample(&zerolog.BurstSampler{Burst: maxLogged, Period: time.Second}),
	}
}

// Run serves until ctx ends, then answers what is under way and returns.
func (a *API) Run(ctx context.Context, listener net.Listener) error {
	// Requests outlive ctx by the grace.
	requests, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	app, err := a.app(requests)
	if err != nil {
		return err
	}
	served := make(chan error, 1)
	go func() { served <- app.Listener(lingeringListener{listener}) }()
	select {
	case err := <-served:
		return fmt.Errorf("serve HTTP: %w", err)
	case <-ctx.Done():
	}
	// The server closes the listener too, but only once it has begun to serve.
	_ = listener.Close()
	grace := time.AfterFunc(answerGrace, cancel)
	defer grace.Stop()
	if err := app.ShutdownWithTimeout(stopTimeout); err != nil && !errors.Is(err, net.ErrClosed) {
		a.log.Warn().Err(err).Msg("requests cut off")
	}
	if err := <-served; err != nil {
		return fmt.Errorf("serve HTTP: %w", err)
	}
	return nil
}

// app builds the routes. Requests end when ctx does.
func (a *API) app(ctx context.Context) (*fiber.App, error) {
	app := fiber.New(fiber.Config{
		DisableStartupMessage: true,
		// Fiber's strings point into buffers that the next request overwrites. Copies cost little, and ids go into caches.
		Immutable:     true,
		StrictRouting: true, CaseSensitive: true,
		StreamRequestBody: true, BodyLimit: maxBody, ReadBufferSize: maxHeaders, ReadTimeout: readTimeout, IdleTimeout: idleTimeout,
		DisablePreParseMultipartForm: true,
		ErrorHandler:                 a.fail,
	})
	app.Use(a.begin(ctx))
	routes := humafiber.NewV2(app, configuration())
	a.registerHealth(routes)
	app.Use(prefix, a.guard)
	a.registerExecute(routes)
	a.registerStuck(routes)
	a.registerQuote(routes)
	a.registerExecutions(routes)
	a.registerReceipt(routes)
	a.registerControl(routes)
	a.registerProgress(routes)
	a.registerRecipes(routes)
	a.registerAgents(routes)
	a.registerCustomers(routes)
	a.registerKeys(routes)
	a.registerLimits(routes)
	a.registerPlans(routes)
	a.registerSubscriptions(routes)
	a.registerCredits(routes)
	a.registerUsage(routes)
	a.registerStatement(routes)
	a.registerAudit(routes)
	a.registerAuditChanges(routes)
	a.registerSecrets(routes)
	a.registerSchedules(routes)
	a.registerDeadLetters(routes)
	a.registerFiles(routes)
	tidy(routes.OpenAPI().Components.Schemas.Map())
	document, err := json.Marshal(routes.OpenAPI())
	if err != nil {
		return nil, fmt.Errorf("encode OpenAPI document: %w", err)
	}
	app.Get("/openapi.json", func(c *fiber.Ctx) error {
		c.Set(fiber.HeaderContentType, "application/openapi+json")
		return c.Send(document)
	})
	return app, nil
}
