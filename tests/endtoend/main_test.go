// Package endtoend_test drives galley as its users do: over HTTP and NATS, as one process and as four. What it knows of galley is the
// public contract; it looks into Postgres only to check, at the end, that everything adds up.
package endtoend_test

import (
	"testing"
	"time"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/tests/internal/contract"
	"github.com/galley-engine/galley/tests/internal/harness"
	"github.com/galley-engine/galley/tests/internal/harness/harnesstest"
)

func TestMain(m *testing.M) { harnesstest.Main(m) }

// TestGalley runs every case against one installation in each mode. Each case has a customer of its own.
func TestGalley(t *testing.T) {
	t.Parallel()
	for _, mode := range harness.Modes() {
		t.Run(string(mode), func(t *testing.T) {
			t.Parallel()
			stage := newStage(t, mode)
			t.Run("cases", func(t *testing.T) {
				for name, run := range cases() {
					t.Run(name, func(t *testing.T) {
						t.Parallel()
						run(t, stage.scene(t))
					})
				}
			})
			stage.checkEverything(t)
		})
	}
}

func cases() map[string]func(*testing.T, *scene) {
	return map[string]func(*testing.T, *scene){
		"execute":                        testExecute,
		"respond async":                  testRespondAsync,
		"wait is over first":             testWait,
		"idempotency key":                testIdempotencyKey,
		"idempotency key at once":        testIdempotencyKeyAtOnce,
		"insufficient credits":           testInsufficientCredits,
		"waits for credits":              testWaitsForCredits,
		"child waits for credits":        testChildWaitsForCredits,
		"tree heads":                     testTreeHeads,
		"not found":                      testNotFound,
		"invalid input":                  testInvalidInput,
		"invalid requests":               testInvalidRequests,
		"large bodies":                   testLargeBodies,
		"keys":                           testKeys,
		"odd ids":                        testOddIDs,
		"list executions":                testListExecutions,
		"money":                          testMoney,
		"audit":                          testAudit,
		"audit proofs":                   testProofs,
		"recipe versions":                testRecipeVersions,
		"invalid recipes":                testInvalidRecipes,
		"health":                         testHealth,
		"partial":                        testPartial,
		"failures":                       testFailures,
		"endless expression":             testEndlessExpression,
		"step that returns 50 MB":        testHugeAnswer,
		"state that grows":               testGrowingState,
		"forbidden addresses":            testForbiddenAddresses,
		"bare event":                     testBareEvent,
		"CloudEvent in binary mode":      testBinaryEvent,
		"CloudEvent in structured mode":  testStructuredEvent,
		"message id":                     testMessageID,
		"event without credits":          testEventWithoutCredits,
		"rejected events":                testRejectedEvents,
		"events of nobody":               testEventsOfNobody,
		"event and call of the same key": testSameKeyTwoWays,
		"foreach":                        testForEach,
		"parallel":                       testParallel,
		"approval":                       testApproval,
		"event that is waited for":       testEvent,
		"cancel":                         testCancel,
		"limit of a plan":                testPlanLimit,
		"resume and rerun":               testResume,
		"schedule":                       testSchedule,
		"secret":                         testSecret,
		"operator":                       testOperator,
	}
}

// stage is an installation that the cases share.
type stage struct {
	installation *harness.Installation
	outside      *outside
	js           jetstream.JetStream
	rules        *contract.Contract
}

func newStage(t *testing.T, mode harness.Mode) *stage {
	t.Helper()
	world := newOutside(t)
	s := &stage{outside: world, installation: harnesstest.Start(t, harness.Config{
		Mode: mode, AllowedHosts: world.hosts(), LogLevel: "debug", // so that what must not be logged would be
	})}
	conn, err := s.installation.Connect()
	require.NoError(t, err)
	t.Cleanup(conn.Close)
	s.js, err = jetstream.New(conn)
	require.NoError(t, err)
	s.rules, err = contract.Load()
	require.NoError(t, err)
	return s
}

const (
	// patience bounds every wait for something that should come at once.
	patience = 30 * time.Second
	period   = 20 * time.Millisecond
)

func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	require.Eventually(t, condition, patience, period, what)
}
