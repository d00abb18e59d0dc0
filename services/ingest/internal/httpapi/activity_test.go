package httpapi_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/query"
	"github.com/galley-engine/galley/schemas/subject"
	"github.com/galley-engine/galley/services/ingest/internal/accept"
	"github.com/galley-engine/galley/services/ingest/internal/catalogue"
)

// doings has, for every operation that is not a GET, the activities that it makes; TestEveryDoingIsAnActivity keeps it complete.
func doings() map[string]struct {
	// activities are their types, each with one event.
	activities []string
	// asked is the query of another service that makes the activity in its own transaction, and gets the actor and the trace for it.
	asked string
	// none says why there is no activity.
	none string
} {
	type doing = struct {
		activities  []string
		asked, none string
	}
	one := func(action string) doing { return doing{activities: []string{action}} }
	return map[string]doing{
		"execute-recipe":       {none: "the journal has it, with the actor: execution.accepted in the log"},
		"quote-recipe":         {none: "it changes nothing"},
		"cancel-execution":     one(event.ActionExecutionCancelled),
		"resume-execution":     one(event.ActionExecutionResumed),
		"rerun-execution":      one(event.ActionExecutionRerun),
		"signal-execution":     one(event.ActionExecutionSignalled),
		"decide-approval":      one(event.ActionExecutionApproved),
		"publish-recipe":       one(event.ActionRecipePublished),
		"create-agent":         one(event.ActionAgentCreated),
		"create-customer":      {activities: []string{event.ActionCustomerCreated, event.ActionKeyCreated}},
		"create-key":           one(event.ActionKeyCreated),
		"revoke-key":           one(event.ActionKeyRevoked),
		"set-vars":             one(event.ActionCustomerUpdated),
		"set-limits":           one(event.ActionCustomerUpdated),
		"set-secret":           one(event.ActionSecretSet),
		"delete-secret":        one(event.ActionSecretDeleted),
		"create-schedule":      one(event.ActionScheduleCreated),
		"change-schedule":      one(event.ActionScheduleChanged),
		"pause-schedule":       one(event.ActionSchedulePaused),
		"resume-schedule":      one(event.ActionScheduleResumed),
		"delete-schedule":      one(event.ActionScheduleDeleted),
		"redrive-dead-letter":  one(event.ActionDeadLetterRedriven),
		"discard-dead-letter":  one(event.ActionDeadLetterDiscarded),
		"upload-file":          one(event.ActionFileUploaded),
		"erase-audit-payloads": {asked: query.AuditErase},
		"set-audit-webhook":    {asked: query.AuditWebhookSet},
		"delete-audit-webhook": {asked: query.AuditWebhookDelete},
		"grant-credits":        {asked: query.Grant},
		"set-overdraft":        {asked: query.Overdraft},
		"set-low-balance":      {asked: query.LowBalance},
		"set-subscription":     {asked: query.Subscribe},
		"cancel-subscription":  {asked: query.CancelSubscription},
		"publish-plan":         {asked: query.PublishPlan},
		"retire-plan":          {asked: query.RetirePlan},
	}
}

// order is that in which one operation makes another one possible.
func order(name string) int {
	return 1 + slices.Index([]string{"resume-schedule", "delete-schedule", "retire-plan"}, name)
}

func TestEveryDoingIsAnActivity(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	all, known := routes(), doings()
	names := slices.SortedFunc(maps.Keys(all), func(a, b string) int {
		if order(a) != order(b) {
			return order(a) - order(b)
		}
		return strings.Compare(a, b)
	})
	alice := s.site(t)
	asked := s.asked(t)
	for i, name := range names {
		r := all[name]
		doing, found := known[name]
		delete(known, name)
		if r.method == "GET" {
			require.False(t, found, "%s reads", name)
			continue
		}
		require.True(t, found, "%s %s is not in the table", r.method, r.path)
		key := alice
		if r.operator {
			key = operatorKey
		}
		before := s.lastActivity(t)
		trace := fmt.Sprintf("00-%032x-00f067aa0ba902b7-01", i+1)
		reply := r.call(t, s, key, "alice", event.HeaderTraceParent, trace)
		require.Less(t, reply.status, 300, "%s: %s", name, reply.body)
		if doing.asked != "" {
			require.Equal(t, []string{trace, map[bool]string{true: "operator", false: "api_key"}[r.operator]}, asked(doing.asked), name)
		}
		for _, action := range doing.activities {
			before++
			s.checkActivity(t, before, action, trace, r.operator)
		}
		s.settled(t)
		require.Equal(t, before, s.lastActivity(t), "%s makes further activities", name)
	}
	require.Empty(t, known)
}

// site makes everything that the routes expect to be there.
func (s *server) site(t *testing.T) (alice string) {
	t.Helper()
	otherServices(t, s)
	alice = s.customer(t, "alice")
	require.Equal(t, 204, s.call(t, alice, "PUT", "/api/v1/secrets/old", `{"value":"x"}`).status)
	for _, id := range []string{"nightly", "old"} {
		require.Equal(t, 201, s.call(t, alice, "POST", "/api/v1/schedules", map[string]any{
			"schedule_id": id, "agent_id": "cook", "recipe_id": "soup", "cron": "@hourly", "input_data": map[string]any{"token": "hunter2"},
		}).status)
	}
	s.publishParty(t, alice)
	s.ran(t, "alice", goingID, event.Request{}, nil, "")
	s.ran(t, "alice", failedID, event.Request{}, nil, event.StatusFailed)
	s.ran(t, "alice", askingID, event.Request{}, nil, "")
	s.key(t, "alice")
	s.deadLetters(t, 3)
	s.answerWith(t, func(_ context.Context, command accept.Command) (accept.Outcome, error) {
		if command.Accepted != nil {
			command.Accepted(subject.Execution{Customer: command.Customer, ID: "018f3a5e-0000-7000-8000-0000000000c1"})
		}
		return accept.Outcome{Done: true, Status: event.StatusSuccess, Response: []byte(`"done"`)}, nil
	})
	require.Eventually(t, func() bool { // the login comes a moment after its request
		_, err := s.activities(t).GetLastMsgForSubject(t.Context(), subject.Activity("", event.ActionOperatorAuthenticated))
		return err == nil
	}, 30*time.Second, time.Millisecond)
	s.settled(t)
	return alice
}

// settled waits until everything that is stored is published. What a request leads to is stored when it is answered.
func (s *server) settled(t *testing.T) {
	t.Helper()
	require.Eventually(t, func() bool {
		var stored int
		err := s.admin.QueryRow(t.Context(), `SELECT count(*) FROM ingest.outbox`).Scan(&stored)
		return err == nil && stored == 0
	}, 30*time.Second, time.Millisecond)
}

func (s *server) activities(t *testing.T) jetstream.Stream {
	t.Helper()
	stream, err := s.bus.JS.Stream(t.Context(), subject.StreamActivity)
	require.NoError(t, err)
	return stream
}

// lastActivity is the sequence of the last message in the stream.
func (s *server) lastActivity(t *testing.T) uint64 {
	t.Helper()
	info, err := s.activities(t).Info(t.Context())
	require.NoError(t, err)
	return info.State.LastSeq
}

func (s *server) checkActivity(t *testing.T, sequence uint64, action, trace string, operator bool) {
	t.Helper()
	var message *jetstream.RawStreamMsg
	require.Eventually(t, func() (found bool) {
		var err error
		message, err = s.activities(t).GetMsg(t.Context(), sequence)
		return err == nil
	}, 30*time.Second, time.Millisecond, action)
	var activity event.Activity
	require.NoError(t, json.Unmarshal(message.Data, &activity))
	require.Equal(t, action, activity.ActionType)
	require.Equal(t, []string{event.TypeActivity, trace, activity.Actor.String()}, []string{
		message.Header.Get(event.HeaderType), message.Header.Get(event.HeaderTraceParent), message.Header.Get(event.HeaderActor),
	}, action)
	resource, _, _ := strings.Cut(action, ".")
	require.Equal(t, resource, activity.ResourceType)
	require.NotEmpty(t, activity.ResourceID)
	require.Equal(t, "success", activity.Outcome)
	if operator {
		require.Equal(t, "operator:operator", activity.Actor.String(), action)
	} else {
		require.Regexp(t, "^api_key:key_", activity.Actor.String(), action)
	}
	checkShape(t, activity.Changes)
}

// checkShape: before and after are objects, one of them at least, and no secret is in them.
func checkShape(t *testing.T, changes json.RawMessage) {
	t.Helper()
	var sides map[string]map[string]any
	require.NoError(t, json.Unmarshal(changes, &sides), string(changes))
	require.NotEmpty(t, sides)
	for name, side := range sides {
		require.Contains(t, []string{"before", "after"}, name)
		require.NotNil(t, side)
	}
	for _, secret := range []string{"hunter2", operatorKey, catalogue.KeyPrefix} {
		require.NotContains(t, string(changes), secret)
	}
}

// asked hears what other services are asked, and gives the trace and the type of the actor of the next query of a name.
func (s *server) asked(t *testing.T) func(name string) []string {
	t.Helper()
	heard, err := s.bus.Conn.SubscribeSync(subject.Query("*", "*"))
	require.NoError(t, err)
	require.NoError(t, s.bus.Conn.Flush())
	return func(name string) []string {
		for {
			message, err := heard.NextMsg(30 * time.Second)
			require.NoError(t, err)
			if !strings.HasSuffix(message.Subject, "."+name) {
				continue
			}
			var request struct {
				Actor event.Actor `json:"actor"`
			}
			require.NoError(t, json.Unmarshal(message.Data, &request))
			return []string{message.Header.Get(event.HeaderTraceParent), request.Actor.Type}
		}
	}
}

// TestLogins: the operator is recorded once, who is not let in is recorded and counted, and no key is in either.
func TestLogins(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	key := s.customer(t, "alice")
	unknown := key[:len(key)-4] + "hunt"
	for range 3 {
		require.Equal(t, 200, s.call(t, key, "GET", "/api/v1/agents", nil).status)
		require.Equal(t, 200, s.call(t, operatorKey, "GET", "/api/v1/agents?customer_id=alice", nil).status)
		require.Equal(t, 401, s.call(t, unknown, "GET", "/api/v1/agents", nil).status)
		require.Equal(t, 401, s.call(t, operatorKey+"x", "GET", "/api/v1/agents", nil).status)
		require.Equal(t, 401, s.call(t, "", "GET", "/api/v1/agents", nil).status, "who brings no key has not tried one")
	}
	s.stop()
	// Some are published, some wait for the next process, and one may be both.
	found := map[string]string{}
	rows, err := s.admin.Query(t.Context(), `SELECT header->>'ce-id', convert_from(data, 'UTF8') FROM ingest.outbox`)
	require.NoError(t, err)
	var id, data string
	_, err = pgx.ForEachRow(rows, []any{&id, &data}, func() error {
		found[id] = data
		return nil
	})
	require.NoError(t, err)
	for sequence := uint64(1); sequence <= s.lastActivity(t); sequence++ {
		message, err := s.activities(t).GetMsg(t.Context(), sequence)
		require.NoError(t, err)
		found[message.Header.Get(event.HeaderID)] = string(message.Data)
	}
	told := map[string]float64{}
	for _, text := range found {
		var activity event.Activity
		require.NoError(t, json.Unmarshal([]byte(text), &activity))
		for _, secret := range []string{operatorKey, key, unknown} {
			require.NotContains(t, text, secret)
		}
		if activity.CustomerID != "" {
			continue
		}
		checkShape(t, activity.Changes)
		var changes struct {
			After struct {
				Address string  `json:"address"`
				Count   float64 `json:"count"`
			} `json:"after"`
		}
		require.NoError(t, json.Unmarshal(activity.Changes, &changes))
		require.Equal(t, "127.0.0.1", changes.After.Address)
		told[activity.ActionType+" "+activity.Actor.String()+" "+activity.Outcome] += max(1, changes.After.Count)
	}
	require.Equal(t, map[string]float64{
		"operator.authenticated operator:operator success": 1, "operator.denied anonymous:anonymous failed": 3,
		"api_key.denied anonymous:anonymous failed": 3,
	}, told)
}
