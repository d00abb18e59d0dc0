// Package verification has the log verify itself from time to time, and write down what was found.
package verification

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/nats-io/nats.go"
	"github.com/rs/zerolog"

	"github.com/galley-engine/galley/pkg/bus"
	"github.com/galley-engine/galley/pkg/clock"
	"github.com/galley-engine/galley/pkg/lifecycle"
	"github.com/galley-engine/galley/pkg/postgres"
	"github.com/galley-engine/galley/schemas/event"
	"github.com/galley-engine/galley/schemas/query"
	"github.com/galley-engine/galley/schemas/subject"
	"github.com/galley-engine/galley/services/audit/internal/publish"
	"github.com/galley-engine/galley/services/audit/internal/reader"
	"github.com/galley-engine/galley/services/audit/verify"
)

const (
	// lockID is held by the process that verifies.
	lockID = 7333
	// settle is how long a process that has just started leaves the log alone.
	settle = time.Minute
	// maxTold is how many findings are written down: the others are counted.
	maxTold = 20
)

// Deps is what a Verifier is given.
type Deps struct {
	// Pool acts as the role that writes the log: it can read all of it.
	Pool   *pgxpool.Pool
	Reader *reader.Reader
	Bus    *bus.Bus
	// Key is the log's public key, Former those that it had before, and Origin its name.
	Key    string
	Former []string
	Origin string
	// Interval is how often, 0 for never.
	Interval time.Duration
	Clock    clock.Clock
	Log      zerolog.Logger
}

// Verifier verifies the log again and again, in one of the processes. Of a large log it reads what is new and a share of the rest, in turn. It is
// used by one goroutine at a time.
type Verifier struct {
	Deps
	shares shares
	// done is the interval of the last verification that this process has made, 0 when it has made none.
	done int64
}

// New makes a Verifier.
func New(deps Deps) *Verifier {
	return &Verifier{Deps: deps, shares: standard()}
}

// Run verifies whenever it is due, until ctx ends.
func (v *Verifier) Run(ctx context.Context) error {
	if v.Interval <= 0 {
		return nil
	}
	report := func(err error) { v.Log.Warn().Err(err).Msg("the audit log was not verified, trying again") }
	return postgres.Lead(ctx, v.Pool, lockID, report, func(ctx context.Context) error {
		latest := v.Clock().Add(v.Interval) // whatever the log says
		pause := min(settle, v.Interval)
		for lifecycle.Sleep(ctx, pause) {
			last, err := Latest(ctx, v.Reader, v.Origin)
			if err != nil {
				return err
			}
			now := v.Clock()
			if pause = min(last.At.Add(v.Interval).Sub(now), latest.Sub(now)); pause > 0 {
				continue
			}
			if err := v.Verify(ctx); err != nil {
				return err
			}
			pause, latest = v.Interval, v.Clock().Add(v.Interval)
		}
		return nil
	})
}

// Verify verifies the log once, gently: with one processor, and over one connection.
func (v *Verifier) Verify(ctx context.Context) error {
	start := v.Clock()
	last, err := Latest(ctx, v.Reader, v.Origin)
	if err != nil {
		return err
	}
	known, err := v.known(ctx, &last)
	if err != nil {
		return err
	}
	// What this process remembers is better than what the log says.
	now, before := v.interval(start), v.done
	if before == 0 {
		before = v.interval(last.Begun)
	}
	published, err := publish.NewNATS(v.Bus).Sample(ctx)
	if err != nil {
		return err
	}
	found, err := verify.Database(ctx, v.Pool, verify.Options{
		Key: v.Key, Former: v.Former, Published: published, Skip: v.shares.skip(known, before, now), Workers: 1, MaxFindings: maxTold, Clock: v.Clock,
	})
	if err != nil {
		return err
	}
	for _, finding := range found.Findings {
		v.Log.Error().Str("code", string(finding.Code)).Int64("row", finding.Sequence).Msg("the audit log is not whole: " + finding.Message)
	}
	if err := Record(ctx, v.Bus, found, Author{Actor: event.Actor{Type: "service", ID: query.ServiceAudit}, At: start}); err != nil {
		return err
	}
	v.done = now
	return nil
}

// interval counts the intervals from 1970 to a time.
func (v *Verifier) interval(at time.Time) int64 {
	return at.UnixNano() / int64(v.Interval)
}

// Author is who has verified, and from when on: what was read in whose turn goes by that.
type Author struct {
	Actor event.Actor
	At    time.Time
}

// told is what the log says of a verification.
type told struct {
	Leaves     int64    `json:"leaves"`
	Skipped    int64    `json:"skipped,omitempty"`
	Size       int64    `json:"size"`
	Root       string   `json:"root"`
	SignedSize int64    `json:"signed_size"`
	Found      int64    `json:"found"`
	Findings   []string `json:"findings,omitempty"`
}

// Record publishes what was found as an activity, which becomes a row of the log.
func Record(ctx context.Context, messages *bus.Bus, found *verify.Report, author Author) error {
	after := told{
		Leaves: found.Leaves, Skipped: found.Skipped, Size: found.Size, Root: found.Root, SignedSize: found.SignedSize,
		Found: int64(len(found.Findings)) + found.Unlisted,
	}
	for _, finding := range found.Findings[:min(len(found.Findings), maxTold)] {
		after.Findings = append(after.Findings, finding.String())
	}
	changes, err := event.Changes(nil, after)
	if err != nil {
		return fmt.Errorf("record the verification: %w", err)
	}
	outcome := event.StatusSuccess
	if !found.Whole() {
		outcome = event.StatusFailed
	}
	data, err := json.Marshal(event.Activity{
		ActionType: event.ActionAuditVerified, ResourceType: event.ResourceAudit, ResourceID: found.Origin, Actor: author.Actor, Changes: changes,
		Outcome: string(outcome), OccurredAt: author.At,
	})
	if err != nil {
		return fmt.Errorf("record the verification: %w", err)
	}
	id, err := uuid.NewV7()
	if err != nil {
		return fmt.Errorf("record the verification: %w", err)
	}
	message := &nats.Msg{Subject: subject.Activity("", event.ActionAuditVerified), Data: data, Header: nats.Header{
		event.HeaderSpecVersion: {"1.0"}, event.HeaderType: {event.TypeActivity}, event.HeaderSource: {"/galley/" + query.ServiceAudit},
		event.HeaderID: {id.String()}, event.HeaderTime: {author.At.UTC().Format(time.RFC3339Nano)}, event.HeaderActor: {author.Actor.String()},
	}}
	if _, err := messages.JS.PublishMsg(ctx, message); err != nil {
		return fmt.Errorf("record the verification: %w", err)
	}
	return nil
}

// Last is the last verification that the log has a row about.
type Last struct {
	// At is when that row was written, zero when there is none. Sequence is the row's, and Begun when the verification began, as it says.
	At       time.Time
	Sequence int64
	Begun    time.Time
	// SignedSize is up to where a tree head covered what was verified, 0 when the details were erased.
	SignedSize int64
	Found      int64
}

// Latest reads the last verification of the log of this name, whoever made it. Where its details were erased, Found is 1 when anything was
// found.
func Latest(ctx context.Context, rows *reader.Reader, origin string) (Last, error) {
	reply, err := rows.Events(ctx, query.AuditEventsRequest{
		CustomerID: query.AuditNobody, ActionType: event.ActionAuditVerified, ResourceID: origin, Limit: 1,
	})
	if err != nil || len(reply.Events) == 0 {
		return Last{}, err
	}
	row := &reply.Events[0]
	last := Last{At: row.RecordedAt, Sequence: row.Sequence, Begun: row.OccurredAt}
	var changes struct {
		After told `json:"after"`
	}
	if json.Unmarshal(row.Changes, &changes) == nil {
		last.SignedSize, last.Found = changes.After.SignedSize, changes.After.Found
	}
	if last.Found == 0 && row.Outcome != string(event.StatusSuccess) {
		last.Found = 1
	}
	return last, nil
}
